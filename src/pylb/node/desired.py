"""Which policy the node has, and which it has been asked to be ready for.

Two phases: `Desired.whole` and `Desired.change` compile what is asked into a
:class:`Staged` and change nothing; `Desired.commit` makes it the policy that the
node has.  All of it is pure computation, so that it can run in any thread; it is
for the caller to run one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pylb.plan import compile as plans
from pylb.plan.tables import Delta, Plan, PlanError
from pylb.policy import objects
from pylb.policy.errors import ManifestError
from pylb.policy.model import Overlay
from pylb.policy.objects import RawObject, Ref
from pylb.policy.store import Store, change


class Refused(Exception):
    """A policy that cannot be taken: ``errors`` holds one sentence for each reason."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = list(errors)


class Conflict(Exception):
    """A request that builds on a policy, or a stage, which the node does not have."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A policy that can be committed: ``delta`` leads to ``plan``, None replaces the plan."""

    number: int
    store: Store
    plan: Plan
    delta: Delta | None


class Desired:
    """The policies of the node called ``node``, with ``overlay`` instead of theirs if given."""

    def __init__(self, node: str, overlay: Overlay | None = None) -> None:
        self.node = node
        self._overlay = overlay
        self.committed: Staged | None = None
        self.staged: Staged | None = None

    @property
    def number(self) -> int:
        """The committed policy's number, 0 for none."""
        return self.committed.number if self.committed is not None else 0

    @property
    def plan(self) -> Plan | None:
        """The committed plan."""
        return self.committed.plan if self.committed is not None else None

    def from_files(self, number: int, files: Sequence[str]) -> Staged:
        """Stage the policy of ``files``; raises `Refused`."""
        try:
            return self._whole(number, objects.read(files))
        except ManifestError as error:
            raise _refused(error) from None

    def whole(self, number: int, bodies: Sequence[Mapping[str, Any]]) -> Staged:
        """Stage the policy that consists of ``bodies``; raises `Refused`."""
        try:
            return self._whole(number, objects.from_bodies(bodies))
        except ManifestError as error:
            raise _refused(error) from None

    def _whole(self, number: int, found: Sequence[RawObject]) -> Staged:
        store = Store.empty(self._overlay).apply(found)
        try:
            plan = plans.compile(store.policy, self.node)
        except PlanError as error:
            raise Refused([str(error)]) from None
        return self._stage(Staged(number, store, plan, None))

    def change(
        self,
        number: int,
        base: int,
        bodies: Sequence[Mapping[str, Any]],
        deleted: Sequence[Ref],
    ) -> Staged:
        """Stage the committed policy, which must be ``base``, with some objects changed.

        Raises `Conflict` when it is another one, and `Refused`.
        """
        old = self.committed
        if old is None or old.number != base:
            raise Conflict(f"base: this node has policy {self.number}, not {base}")
        try:
            store = self._changed(old.store, objects.from_bodies(bodies), deleted)
            delta = plans.update(old.plan, change(old.store, store))
            plans.validate_delta(old.plan, delta)
            plan = plans.apply(old.plan, delta)
        except ManifestError as error:
            raise _refused(error) from None
        except PlanError as error:
            raise Refused([str(error)]) from None
        return self._stage(Staged(number, store, plan, delta))

    def _changed(self, store: Store, found: Sequence[RawObject], deleted: Sequence[Ref]) -> Store:
        """``store`` with both done as one: nothing between them needs to be a policy."""
        if not deleted:
            return store.apply(found)
        try:
            store_without = store.delete(deleted)
            return store_without.apply(found) if found else store_without
        except ManifestError:
            if not found or any(ref not in store.objects for ref in deleted):
                raise
        left = {ref: each.raw for ref, each in store.objects.items() if ref not in set(deleted)}
        left |= {each.ref: each for each in found}
        return Store.empty(self._overlay).apply(list(left.values()))

    def _stage(self, staged: Staged) -> Staged:
        self.staged = staged
        return staged

    def ready(self, number: int) -> Staged:
        """What was staged as ``number``; raises `Conflict` when that is not what is staged."""
        if self.staged is None or self.staged.number != number:
            have = "nothing" if self.staged is None else f"policy {self.staged.number}"
            raise Conflict(f"number: policy {number} is not staged here, {have} is")
        return self.staged

    def commit(self, staged: Staged) -> None:
        """``staged`` is the node's policy from now on."""
        self.committed, self.staged = staged, None


def _refused(error: ManifestError) -> Refused:
    return Refused([str(problem) for problem in error.problems])
