"""The lab's machines: namespaces, links and workloads, made to be as a policy says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from pylb.lab import etc, images, netns
from pylb.lab.errors import LabError
from pylb.lab.links import Wiring
from pylb.lab.names import Place, places, pod_place
from pylb.lab.owned import Owned
from pylb.lab.process import Children
from pylb.lab.workloads import Workload
from pylb.policy.model import Key, Overlay, Pod, Policy

log = logging.getLogger(__name__)

POD_GRACE = 2.0
"""Seconds that a removed pod's processes have after SIGTERM."""


def check(lab: str, old: Policy | None, new: Policy) -> None:
    """Raise `LabError` unless a lab can be, or become, as ``new`` says."""
    places(lab, new)
    images.check(new)
    if old is None:
        return
    if old.lab != new.lab:
        raise LabError("Lab: the document of a running lab cannot be changed: take it down first")
    if dict(old.nodes) != dict(new.nodes):
        name = next(n for n in {**new.nodes, **old.nodes} if old.nodes.get(n) != new.nodes.get(n))
        raise LabError(
            f"Node {name}: the Nodes of a running lab cannot be changed: take it down first"
        )


def _body(pod: Pod) -> tuple[object, ...]:
    """What a pod must be made anew for when it differs."""
    return (pod.node, pod.ip, pod.containers, pod.hostname)


class Cluster:
    """What is there of the policy that it was last told."""

    def __init__(self, lab: str, overlay: Overlay, owned: Owned, children: Children) -> None:
        self._lab = lab
        self._overlay = overlay
        self._owned = owned
        self._children = children
        self._policy: Policy | None = None
        self.places: dict[str, Place] = {}
        self.pods: dict[Key, Workload] = {}
        self.outside: dict[str, Workload] = {}

    def _wiring(self, policy: Policy) -> Wiring:
        return Wiring(self._lab, policy.lab, policy.lab.mtu - self._overlay.overhead)

    async def make(self, policy: Policy) -> None:
        """Make every place and its link; start nothing.  Raises OSError, pyroute2's errors."""
        self.places = places(self._lab, policy)
        await asyncio.to_thread(self._make, policy)
        self._policy = policy

    def _make(self, policy: Policy) -> None:
        if netns.prepare_folder():
            self._owned.set_netns_mount()
        etc.write(self.places.values(), policy)
        netns.create(
            [place.namespace for place in self.places.values()], self._owned.add_namespaces
        )
        with self._wiring(policy) as wiring:
            wiring.router()
            wiring.client()
            wiring.outside(policy.lab.outside)
            for node in policy.nodes.values():
                wiring.node(node)
            for pod in policy.pods.values():
                wiring.pod(pod, policy.nodes[pod.node])

    def start(self) -> None:
        """Start the containers of every pod and outside host; raises OSError."""
        assert self._policy is not None
        self.outside = {
            host.name: Workload(self.places[host.name], host, self._children)
            for host in self._policy.lab.outside
        }
        self._start_pods(self._policy.pods.values(), self.outside.values())

    def _start_pods(self, pods: Iterable[Pod], others: Iterable[Workload] = ()) -> None:
        fresh = {pod.key: self._workload(pod) for pod in pods}
        self.pods |= fresh
        workloads = [*fresh.values(), *others]
        commands = [workload.commands() for workload in workloads]
        # In one batch, so that they start side by side and are recorded in one write.
        children = iter(self._children.start([c for some in commands for c in some]))
        for workload, some in zip(workloads, commands, strict=True):
            workload.started([next(children) for _ in some])

    def _workload(self, pod: Pod) -> Workload:
        return Workload(self.places[pod_place(pod.key)], pod, self._children)

    async def become(self, policy: Policy) -> None:
        """Remove, make and start pods so that they are as ``policy`` says.

        A pod whose node, address, containers or hostname changed is made anew.
        Raises OSError and pyroute2's errors.
        """
        old = self._policy
        assert old is not None
        gone = [
            pod
            for key, pod in old.pods.items()
            if key not in policy.pods or _body(policy.pods[key]) != _body(pod)
        ]
        fresh = [
            pod
            for key, pod in policy.pods.items()
            if key not in old.pods or _body(old.pods[key]) != _body(pod)
        ]
        await self._remove(gone, old)
        self.places = places(self._lab, policy)
        self._policy = policy
        for key, workload in self.pods.items():
            workload.owner = policy.pods[key]
        if fresh:
            await asyncio.to_thread(self._add, fresh, policy)
            self._start_pods(fresh)
        await asyncio.to_thread(etc.write, list(self.places.values()), policy)

    async def _remove(self, pods: list[Pod], policy: Policy) -> None:
        stopping = [self.pods.pop(pod.key) for pod in pods if pod.key in self.pods]
        if stopping:
            await asyncio.gather(*(workload.stop(POD_GRACE) for workload in stopping))
        if pods:
            await asyncio.to_thread(self._remove_places, pods, policy)

    def _remove_places(self, pods: list[Pod], policy: Policy) -> None:
        with self._wiring(policy) as wiring:
            for pod in pods:
                wiring.remove_pod(pod, policy.nodes[pod.node])
        removed = [self.places[pod_place(pod.key)] for pod in pods]
        for place in removed:
            netns.remove(place.namespace, self._owned.namespaces[place.namespace])
            for file in place.folder.iterdir():
                file.unlink()
            place.folder.rmdir()
        self._owned.forget_namespaces([place.namespace for place in removed])

    def _add(self, pods: list[Pod], policy: Policy) -> None:
        fresh = [self.places[pod_place(pod.key)] for pod in pods]
        etc.write(fresh, policy)
        netns.create([place.namespace for place in fresh], self._owned.add_namespaces)
        with self._wiring(policy) as wiring:
            for pod in pods:
                wiring.pod(pod, policy.nodes[pod.node])

    def ready(self) -> dict[Key, bool]:
        """Which pods run and listen, by what their processes do alone."""
        return {key: workload.ready() for key, workload in self.pods.items()}

    async def stop(self, grace: float) -> None:
        """End all workloads, each with ``grace`` seconds after SIGTERM."""
        everything = [*self.pods.values(), *self.outside.values()]
        self.pods, self.outside = {}, {}
        if everything:
            await asyncio.gather(*(workload.stop(grace) for workload in everything))
