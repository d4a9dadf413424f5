"""The user's objects, and the policy that they make.

A `Store` is a value: `apply` and `delete` give a new one and leave the old as it
is, so a bad manifest changes nothing.  What was assigned is carried from store
to store.  A change that touches only endpoints or readiness rebuilds only the
Services concerned.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pylb.policy.bodies import Body, normalised
from pylb.policy.build import Built, build, rebuild_endpoints
from pylb.policy.errors import ManifestError, Problem
from pylb.policy.manifests import Understood, understand
from pylb.policy.model import Change, Key, Overlay, Policy
from pylb.policy.objects import RawObject, Ref, read
from pylb.policy.workloads import PodTemplate

_FOUNDATIONS = frozenset(("Node", "Lab"))
_ENDPOINT_KINDS = frozenset(("EndpointSlice", "Endpoints"))


@dataclass(frozen=True)
class Store:
    """Objects, what is known of pods' readiness, and what follows from both.

    ``overlay`` overrides the Lab document's.
    """

    objects: Mapping[Ref, Understood] = field(default_factory=dict)
    ready: Mapping[Key, bool] = field(default_factory=dict)
    overlay: Overlay | None = None
    built: Built | None = None

    @staticmethod
    def empty(overlay: Overlay | None = None) -> Store:
        """A store without objects; it has no policy yet."""
        return Store(overlay=overlay)

    @property
    def policy(self) -> Policy:
        """The policy; raises `ManifestError` for a store without objects."""
        if self.built is None:
            raise ManifestError([Problem("<policy>", 0, "", "", "expected at least one Node")])
        return self.built.policy

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the objects say that is not acted on."""
        own = tuple(w for understood in self.objects.values() for w in understood.warnings)
        return own + (self.built.warnings if self.built else ())

    def apply(self, objects: Sequence[RawObject]) -> Store:
        """With ``objects`` added or put in the place of their namesakes.

        Raises `ManifestError` with every problem.
        """
        changed: dict[Ref, Understood] = {}
        for raw in objects:
            before = self.objects.get(raw.ref)
            if before is None or before.raw.body != raw.body:
                changed[raw.ref] = understand(raw)
        if not changed and self.built is not None:
            return self
        wrong = {ref: understood for ref, understood in changed.items() if understood.problems}
        good = {ref: understood for ref, understood in changed.items() if ref not in wrong}
        problems = [p for understood in wrong.values() for p in understood.problems]
        if not any(ref.kind in _FOUNDATIONS for ref in wrong):
            # What is wrong between the others comes too, unless it follows from the first.
            try:
                made = self._with({**self.objects, **good}, good.keys())
            except ManifestError as more:
                problems += more.problems
        if problems:
            raise ManifestError(problems)
        return made

    def delete(self, refs: Iterable[Ref]) -> Store:
        """Without the named objects; raises `ManifestError` when one is not there."""
        refs = list(refs)
        unknown = [ref for ref in refs if ref not in self.objects]
        if unknown:
            raise ManifestError(
                Problem("<delete>", 0, str(ref), "", "there is no such object") for ref in unknown
            )
        gone = set(refs)
        kept = {ref: each for ref, each in self.objects.items() if ref not in gone}
        return self._with(kept, gone)

    def remade(self, pods: Collection[Key]) -> tuple[Store, Store]:
        """Two stores: without pods of Deployments or ReplicaSets, and with them made anew."""
        owners = {self.built.sources[key].ref for key in pods} if self.built else set()
        without = dict(self.objects)
        for ref in owners:
            kept = tuple(m for m in without[ref].models if _pod_key(m) not in pods)
            without[ref] = replace(without[ref], models=kept)
        between = self._with(without, owners)
        return between, between._with(self.objects, owners)

    def with_ready(self, ready: Mapping[Key, bool]) -> Store:
        """With what was observed of pods' readiness.

        It counts for pods whose manifests say nothing of it.
        """
        if ready == self.ready or self.built is None:
            return replace(self, ready=dict(ready))
        keys = {*ready, *self.ready}
        pods = {key for key in keys if ready.get(key) != self.ready.get(key)}
        built = rebuild_endpoints(self.built, self.objects, ready, pods, set())
        return replace(self, ready=dict(ready), built=built)

    def bodies(self, kind: str | None = None, namespace: str | None = None) -> list[Body]:
        """Kubernetes objects with everything assigned filled in.

        They make an equal policy in another store.  Pods of a Deployment or
        ReplicaSet come as Pods; the Deployment itself only when asked for by kind.
        """
        if self.built is None:
            return []
        return normalised(self.built, self.objects, kind, namespace)

    def _with(self, objects: Mapping[Ref, Understood], touched: Iterable[Ref]) -> Store:
        touched = set(touched)
        if self.built is not None and all(ref.kind in _ENDPOINT_KINDS for ref in touched):
            built = rebuild_endpoints(self.built, objects, self.ready, set(), touched)
        else:
            built = build(objects, self.ready, self.overlay, self.built)
        return replace(self, objects=objects, built=built)


def _pod_key(model: Any) -> Key | None:
    return model.pod.key if isinstance(model, PodTemplate) else None


def read_all(paths: Sequence[Path | str]) -> list[RawObject]:
    """As `pylb.policy.objects.read`, with what is wrong inside the readable objects too."""
    try:
        return read(paths)
    except ManifestError as error:
        more = [p for raw in error.readable for p in understand(raw).problems]
        raise ManifestError([*error.problems, *more], error.readable) from None


def change(old: Store, new: Store) -> Change:
    """What differs between the policies of two stores."""
    before, after = old.policy, new.policy
    services = _differing(before.services, after.services)
    services |= _differing(before.slices, after.slices)
    services |= _differing(before.takers, after.takers)
    services |= _differing(before.redirected, after.redirected)
    return Change(
        after,
        _differing(before.nodes, after.nodes),
        _differing(before.pods, after.pods),
        services,
        before.lab != after.lab,
        _differing(before.redirects, after.redirects),
    )


def _differing(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> frozenset[Any]:
    if old is new:
        return frozenset()
    changed = {
        key for key, value in new.items() if (was := old.get(key)) is not value and was != value
    }
    if len(old) + len(changed) > len(new) or old.keys() - new.keys():
        changed |= old.keys() - new.keys()
    return frozenset(changed)
