"""The process that runs a lab: it holds the policy and makes everything be as it says.

`pylb.lab.lifetime.up` starts it and sends what it is to run as JSON on stdin;
it tells its progress on stdout, a JSON object a line, until the lab is up.  From
then on it is spoken to through its API (`pylb.lab.api`).

One lock is held while the policy changes.  A change goes through in this order,
so that whatever fails before the commit leaves everything as it was: the new
policy is checked, every daemon validates it, every daemon commits it, pods are
removed and made.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from pylb.control.http import Server
from pylb.control.paths import LabPaths
from pylb.lab import removal, views
from pylb.lab.api import routes
from pylb.lab.cluster import Cluster, check, check_deletion
from pylb.lab.daemons import Daemons, Step
from pylb.lab.errors import LabError
from pylb.lab.owned import Owned
from pylb.lab.process import Children
from pylb.policy import objects
from pylb.policy.model import Key, Overlay
from pylb.policy.objects import RawObject, Ref
from pylb.policy.patching import difference, merge, patched
from pylb.policy.store import Store

log = logging.getLogger(__name__)

_STARTING = 30.0
"""Seconds that a changed pod is looked at often."""
_POLL_STARTING = 0.02
_POLL = 0.5
"""Seconds between looks at what listens: while pods are starting, and otherwise."""
_GRACE = 1.0
"""Seconds that processes have after SIGTERM when a lab goes down."""

Body = dict[str, Any]


class Controller:
    """One lab."""

    def __init__(self, lab: str, dataplane: str, overlay: Overlay, store: Store) -> None:
        """Nothing is made yet: `bring_up` does."""
        self.lab = lab
        self.dataplane = dataplane
        self.overlay = overlay
        self.paths = LabPaths(lab)
        # Until a pod was seen to be ready it is not.
        self.store = store.with_ready(dict.fromkeys(store.policy.pods, False))
        self.ended = asyncio.Event()
        self._ending = False
        self._lock = asyncio.Lock()
        self._explicit = {k for k, pod in store.policy.pods.items() if pod.ready is not None}
        self._bodies = _by_ref(self.store)
        self._step = Step(1, list(self._bodies.values()))
        self._owned = Owned.load(self.paths.owned)
        self._children = Children(self._owned)
        self._stirred = asyncio.Event()
        self._cluster = Cluster(
            lab, overlay, self._owned, self._children, on_exit=self._stirred.set
        )
        self._daemons: Daemons | None = None
        self._watching: asyncio.Task[None] | None = None
        self._ages = views.Ages()
        self._ages.keep({*self._bodies, *store.objects})
        self._eager_until = 0.0

    async def bring_up(self, ready_within: float, told: Progress) -> None:
        """Make everything and wait, ``ready_within`` seconds, until all pods are ready.

        Raises `LabError`, OSError and pyroute2's errors.
        """
        policy = self.store.policy
        count = f"{len(policy.nodes)} nodes, {len(policy.pods)} pods"
        told(f"making namespaces and links: {count}")
        await self._cluster.make(policy)
        told("starting daemons and workloads")
        self._daemons = Daemons(
            self.lab,
            [self._cluster.places[name] for name in policy.nodes],
            ["--dataplane", self.dataplane, "--overlay", self.overlay.value],
            self._children,
            self._lock,
            lambda: self._step,
        )
        self._daemons.start()
        self._cluster.start()
        await self._daemons.all_up()
        told("daemons are up, waiting for pods")
        await self._until_ready(ready_within, told)
        self._watching = asyncio.create_task(self._watch())

    async def _until_ready(self, ready_within: float, told: Progress) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ready_within
        waiting: list[str] = []
        while True:
            await self._look()
            now = self._not_ready()
            if not now:
                told(f"all {len(self.store.policy.pods)} pods are ready")
                return
            if loop.time() > deadline:
                raise LabError("\n".join(self._why(now, ready_within, told)))
            if len(now) < len(waiting):
                told(f"waiting for {', '.join(now)}")
            waiting = now
            await asyncio.sleep(_POLL_STARTING)

    def _not_ready(self) -> list[str]:
        """The pods and outside hosts that `up` waits for.

        A pod whose manifest says that it is not ready is as it should be.
        """
        ready = self._cluster.ready()
        pods = [_spelled(k) for k, value in ready.items() if not value and k not in self._explicit]
        hosts = [name for name, host in self._cluster.outside.items() if not host.ready()]
        return pods + hosts

    def _why(self, names: list[str], waited: float, told: Progress) -> list[str]:
        """A sentence for each; what they wrote goes to ``told``."""
        workloads = {_spelled(key): w for key, w in self._cluster.pods.items()}
        workloads |= self._cluster.outside
        sentences = []
        for name in names:
            workload = workloads[name]
            written = workload.tail()
            for line in written:
                told(f"{name} wrote: {line}")
            last = f"; it last wrote: {written[-1]}" if written else ""
            sentences.append(
                f"{name} is not ready after {waited:g} s: {workload.condition()}{last}"
            )
        return sentences

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            eager = loop.time() < self._eager_until and bool(self._not_ready())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_STARTING if eager else _POLL):
                    await self._stirred.wait()
                # What ended is started again, and ready again before long.
                self._eager_until = loop.time() + _STARTING
                self._stirred.clear()
            try:
                await self._look()
            except Exception:
                log.exception("looking after the pods' readiness failed")

    async def _look(self) -> None:
        """Make the policy say which pods are ready; the daemons are told of changes alone."""
        async with self._lock:
            store = self.store.with_ready(self._cluster.ready())
            if store.policy is not self.store.policy:
                await self._change(store)

    async def apply(self, raws: list[RawObject]) -> Body:
        """Create or change objects, all or none.

        Raises `ManifestError`, `LabError` and `Refused` with nothing changed;
        `LabError` also when a pod could not be made, which is then the one
        thing missing.
        """
        async with self._lock:
            before = self.store
            store = before.apply(raws)
            if store is not before:
                await self._change(store)
        results = [{**_ref_json(raw.ref), "action": _action(before, raw)} for raw in raws]
        return {"results": results, "warnings": _warnings(before, store, raws)}

    async def create(self, raws: list[RawObject]) -> Body:
        """Create objects, all or none: none also when any is there already, which is told.

        Raises as `apply` does.
        """
        async with self._lock:
            there = [raw.ref for raw in raws if self._has(raw.ref)]
            if there:
                told = [{**_ref_json(ref), "action": "exists"} for ref in there]
                return {"results": told, "warnings": []}
            before = self.store
            store = before.apply(raws)
            await self._change(store)
        results = [{**_ref_json(raw.ref), "action": "created"} for raw in raws]
        return {"results": results, "warnings": _warnings(before, store, raws)}

    def _has(self, ref: Ref) -> bool:
        """Whether there is such an object, also one that follows from another."""
        return ref in self.store.objects or (
            ref.kind == "Pod" and ref[1:] in self.store.policy.pods
        )

    async def patch(self, ref: Ref, patch: Any, form: str) -> Body:
        """Patch an object as it is shown: also what was assigned to it may be changed.

        Raises as `apply` does, and `PatchError`.
        """
        async with self._lock:
            before = self.store
            if (given := before.objects.get(ref)) is None:
                self._check_pod(ref)
                return {"results": [{**_ref_json(ref), "action": "not found"}], "warnings": []}
            shown = self._body(ref) or given.raw.body
            change = difference(shown, patched(shown, patch, form))
            if not change:
                return {"results": [{**_ref_json(ref), "action": "unchanged"}], "warnings": []}
            # Onto what was given, so that what was assigned stays no more than that.
            store = before.apply(objects.raw("", 0, merge(given.raw.body, change)))
            if store is not before:
                await self._change(store)
        action = "unchanged" if store is before else "patched"
        warnings = [w for w in store.warnings if w not in before.warnings]
        return {"results": [{**_ref_json(ref), "action": action}], "warnings": warnings}

    def _body(self, ref: Ref) -> Body | None:
        for raw in objects.from_bodies(self.store.bodies(ref.kind, ref.namespace)):
            if raw.ref == ref:
                return dict(raw.body)
        return None

    def _check_pod(self, ref: Ref) -> None:
        """Raise `LabError` for a pod that only its owner can change."""
        if ref.kind == "Pod" and ref[1:] in self.store.policy.pods and self.store.built:
            owner = self.store.built.sources[ref[1:]].ref
            raise LabError(f"{ref}: it follows from {owner}: change that")

    async def delete(self, refs: list[Ref]) -> Body:
        """Delete objects, all or none; those that are not there are told so.

        A pod of a Deployment or ReplicaSet is made anew.  Raises as `apply` does.
        """
        async with self._lock:
            there = [ref for ref in refs if ref in self.store.objects]
            found = {ref for ref in refs if self._has(ref)}
            check_deletion(there)
            before = self.store
            if there:
                await self._change(self.store.delete(there))
            again = [ref[1:] for ref in found if ref.kind == "Pod" and self._has(ref)]
            if again:
                for store in self.store.remade(again):
                    await self._change(store)
        results = [
            {**_ref_json(ref), "action": "deleted" if ref in found else "not found"} for ref in refs
        ]
        warnings = [w for w in self.store.warnings if w not in before.warnings]
        return {"results": results, "warnings": warnings}

    async def _change(self, store: Store) -> None:
        """Go over to ``store``, with the lock held."""
        if self._ending or self._daemons is None:
            raise LabError(f"lab {self.lab!r} is going down")
        check(self.lab, self.store.policy, store.policy)
        self._cluster.check_room(store.policy)
        # A pod is not ready before it was seen to be, whatever a namesake before it was.
        kept = self._cluster.kept(store.policy)
        store = store.with_ready(
            {key: key in kept and store.ready.get(key, False) for key in store.policy.pods}
        )
        bodies = _by_ref(store)
        step = Step(
            number=self._step.number + 1,
            objects=list(bodies.values()),
            base=self._step.number,
            apply=tuple(b for ref, b in bodies.items() if self._bodies.get(ref) != b),
            delete=tuple(_ref_json(ref) for ref in self._bodies if ref not in bodies),
        )
        taken = await self._daemons.offer(step)
        self._ages.keep({*bodies, *store.objects})
        self.store, self._bodies, self._step = store, bodies, step
        if len(kept) < len(store.policy.pods):
            self._eager_until = asyncio.get_running_loop().time() + _STARTING
        await self._daemons.commit(step, taken)
        await self._cluster.become(store.policy)

    def objects(self, kind: str | None, namespace: str | None) -> list[Body]:
        """Objects as Kubernetes would give them, of one kind and namespace if those are given."""
        bodies = self.store.bodies(kind, namespace)
        if kind is None:
            # Of all kinds only what was given comes; the computed slices come by theirs.
            bodies = [body for body in bodies if body["kind"] != "EndpointSlice"]
            bodies += self.store.bodies("EndpointSlice", namespace)
        if kind == "Endpoints":
            known = {(str(b["metadata"]["namespace"]), str(b["metadata"]["name"])) for b in bodies}
            bodies += views.endpoints(self.store.policy, namespace, known)
        daemons = self._daemons.all if self._daemons else {}
        policy, pods = self.store.policy, self._cluster.pods
        sources = self.store.built.sources if self.store.built else {}
        return list(views.objects(bodies, policy, pods, daemons, self._ages, sources))

    def status(self) -> Body:
        """What runs and how it is."""
        daemons = self._daemons.all if self._daemons else {}
        return {
            "lab": self.lab,
            "dataplane": self.dataplane,
            "overlay": self.overlay.value,
            "generation": self._step.number,
            "pid": os.getpid(),
            **views.status(self.store.policy, self._cluster.pods, daemons),
        }

    async def take_down(self) -> list[str]:
        """End and remove everything but this process; gives what was removed."""
        self._ending = True
        if self._watching is not None:
            self._watching.cancel()
        async with self._lock:
            ending = [self._cluster.stop(_GRACE)]
            if self._daemons is not None:
                ending.append(self._daemons.stop(_GRACE))
            await asyncio.gather(*ending)
            removed = await asyncio.to_thread(
                removal.remove_all, self._owned, self.paths.root, spare=os.getpid()
            )
        self.ended.set()
        return removed


class Progress:
    """Tells `up` how far things are, until it is told the end or has gone."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __call__(self, text: str) -> None:
        """Tell a step."""
        log.info(text)
        self._tell({"progress": text})

    def end(self, **message: object) -> None:
        """Tell the last thing: ``done=True`` or ``error=...``."""
        self._tell(message)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._descriptor)
        os.close(null)

    def _tell(self, message: Mapping[str, object]) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._descriptor, json.dumps(message).encode() + b"\n")


def _by_ref(store: Store) -> dict[Ref, Body]:
    return {raw.ref: dict(raw.body) for raw in objects.from_bodies(store.bodies())}


def _ref_json(ref: Ref) -> Body:
    return {"kind": ref.kind, "namespace": ref.namespace, "name": ref.name}


def _action(before: Store, raw: RawObject) -> str:
    if raw.ref not in before.objects:
        return "created"
    same = before.objects[raw.ref].raw.body == raw.body
    return "unchanged" if same else "configured"


def _warnings(before: Store, store: Store, raws: Iterable[RawObject]) -> list[str]:
    """Those about what was sent, and those that there were not before."""
    known, sent = set(before.warnings), {str(raw.ref) for raw in raws}
    return [w for w in store.warnings if w not in known or not sent.isdisjoint(w.split(": "))]


def _spelled(key: Key) -> str:
    return key[1] if key[0] == "default" else f"{key[0]}/{key[1]}"


def raw_objects(sent: Iterable[Mapping[str, Any]]) -> list[RawObject]:
    """Objects as they came over a wire; raises `ManifestError`."""
    found: list[RawObject] = []
    for each in sent:
        found += objects.raw(str(each["file"]), int(each["document"]), each["body"])
    return found


async def run(lab: str, request: Mapping[str, Any], told: Progress) -> int:
    """Run a lab until it is taken down; gives an exit status."""
    overlay = Overlay(request["overlay"])
    store = Store.empty(overlay).apply(raw_objects(request["objects"]))
    controller = Controller(lab, request["dataplane"], overlay, store)
    server = Server(controller.paths.api, routes(controller))
    loop = asyncio.get_running_loop()
    try:
        await controller.bring_up(float(request["readyWithin"]), told)
        await server.start()
    except Exception as error:
        if not isinstance(error, LabError):
            log.exception("the lab could not be brought up")
        await controller.take_down()
        told.end(error=str(error) or type(error).__name__)
        return 1
    downs: set[asyncio.Task[list[str]]] = set()
    loop.add_signal_handler(
        signal.SIGTERM, lambda: downs.add(asyncio.create_task(controller.take_down()))
    )
    told.end(done=True)
    log.info("up")
    await controller.ended.wait()
    await server.close()
    return 0


def main(lab: str) -> int:
    """Run the lab whose request is on stdin."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    told = Progress(sys.stdout.fileno())
    request = sys.stdin.read()
    if not request:
        return 1  # whoever started this process is gone
    return asyncio.run(run(lab, json.loads(request), told))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
