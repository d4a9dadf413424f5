"""The lab's machines: namespaces, links and workloads, made to be as a policy says."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address

from pyroute2.netlink.exceptions import NetlinkError

from pylb.lab import etc, images, netns
from pylb.lab.errors import LabError
from pylb.lab.links import Wiring
from pylb.lab.names import Place, places, pod_place
from pylb.lab.owned import Owned
from pylb.lab.process import Children
from pylb.lab.workloads import Workload
from pylb.policy.model import Key, OutsideHost, Overlay, Pod, Policy
from pylb.policy.objects import Ref

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
        raise _fixed(Ref("Lab", "", "lab"))
    if dict(old.nodes) != dict(new.nodes):
        name = next(n for n in {**new.nodes, **old.nodes} if old.nodes.get(n) != new.nodes.get(n))
        raise _fixed(Ref("Node", "", name))


def check_deletion(refs: Iterable[Ref]) -> None:
    """Raise `LabError` if a running lab cannot go on without one of these objects."""
    for ref in refs:
        if ref.kind in ("Node", "Lab"):
            raise _fixed(ref)


def _fixed(ref: Ref) -> LabError:
    what = "Lab: the document" if ref.kind == "Lab" else f"Node {ref.name}: the Nodes"
    return LabError(f"{what} of a running lab cannot be changed: take it down first")


def check_free(wanted: Iterable[Place]) -> None:
    """Raise `LabError` if there is already a namespace called like one of these places'."""
    for place in wanted:
        if os.path.lexists(netns.path(place.namespace)):
            raise LabError(
                f"a network namespace called {place.namespace} exists already and is not this "
                "lab's: remove it, or choose another name"
            )


def _body(pod: Pod) -> tuple[object, ...]:
    """What a pod must be made anew for when it differs."""
    return (pod.node, pod.ip, pod.containers, pod.hostname)


def routes(policy: Policy) -> dict[IPv4Address, tuple[IPv4Address, ...]]:
    """The nodes to which the router sends packets to each virtual address outside the underlay.

    Addresses of the underlay's own subnet have no route: a node answers ARP for them.
    """
    found: dict[IPv4Address, set[IPv4Address]] = {}
    for key, takers in policy.takers.items():
        for address in policy.services[key].reached_from_outside:
            if address not in policy.lab.underlay:
                nodes = (policy.nodes[name].internal_ip for name in takers)
                found.setdefault(address, set()).update(nodes)
    return {address: tuple(sorted(nodes)) for address, nodes in found.items()}


class Cluster:
    """What is there of the policy that it was last told."""

    def __init__(
        self,
        lab: str,
        overlay: Overlay,
        owned: Owned,
        children: Children,
        on_exit: Callable[[], None],
    ) -> None:
        """``on_exit`` is called when a process of a pod has ended."""
        self._lab = lab
        self._overlay = overlay
        self._owned = owned
        self._children = children
        self._on_exit = on_exit
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
            wiring.announce({}, routes(policy))
            for node in policy.nodes.values():
                wiring.node(node)
            for pod in policy.pods.values():
                wiring.pod(pod, policy.nodes[pod.node])

    def start(self) -> None:
        """Start the containers of every pod and outside host; raises OSError."""
        assert self._policy is not None
        self.outside = {
            host.name: self._workload(self.places[host.name], host)
            for host in self._policy.lab.outside
        }
        self._start_pods(self._policy.pods.values(), self.outside.values())

    def _start_pods(self, pods: Iterable[Pod], others: Iterable[Workload] = ()) -> None:
        fresh = {pod.key: self._workload(self.places[pod_place(pod.key)], pod) for pod in pods}
        self.pods |= fresh
        workloads = [*fresh.values(), *others]
        commands = [workload.commands() for workload in workloads]
        # In one batch, so that they start side by side and are recorded in one write.
        children = iter(self._children.start([c for some in commands for c in some]))
        for workload, some in zip(workloads, commands, strict=True):
            workload.started([next(children) for _ in some])

    def _workload(self, place: Place, owner: Pod | OutsideHost) -> Workload:
        return Workload(place, owner, self._children, self._on_exit)

    def kept(self, policy: Policy) -> set[Key]:
        """The pods that `become` would leave as they are: there, and what they are to be."""
        old = self._policy.pods if self._policy else {}
        return {
            key
            for key, pod in policy.pods.items()
            if key in self.pods and key in old and _body(old[key]) == _body(pod)
        }

    def check_room(self, policy: Policy) -> None:
        """Raise `LabError` if a pod that `become` would add cannot have its namespace."""
        wanted = places(self._lab, policy)
        check_free(wanted[pod_place(key)] for key in policy.pods if key not in self.pods)

    async def become(self, policy: Policy) -> None:
        """Remove, make and start pods so that they are as ``policy`` says.

        A pod whose node, address, containers or hostname changed is made anew.
        Raises `LabError` when they could not be made: then they are not there, and
        the next call tries again.
        """
        old = self._policy
        assert old is not None
        kept = self.kept(policy)
        gone = [pod for key, pod in old.pods.items() if key not in kept]
        fresh = [pod for key, pod in policy.pods.items() if key not in kept]
        await self._remove(gone, old)
        self.places = places(self._lab, policy)
        self._policy = policy
        for key, workload in self.pods.items():
            workload.owner = policy.pods[key]
        try:
            if fresh:
                await asyncio.to_thread(self._add, fresh, policy)
                self._start_pods(fresh)
        except (OSError, NetlinkError) as error:
            await self._remove(fresh, policy)
            names = ", ".join(images.owner_name(pod) for pod in fresh)
            raise LabError(f"{names}: could not be made: {error}") from error
        await asyncio.to_thread(self._tell, old, policy)

    def _tell(self, old: Policy, policy: Policy) -> None:
        """Tell the router and all places of the Services' addresses and names."""
        before, after = routes(old), routes(policy)
        if before != after:
            with self._wiring(policy) as wiring:
                wiring.announce(before, after)
        etc.write(list(self.places.values()), policy)

    async def _remove(self, pods: list[Pod], policy: Policy) -> None:
        stopping = [self.pods.pop(pod.key) for pod in pods if pod.key in self.pods]
        if stopping:
            await asyncio.gather(*(workload.stop(POD_GRACE) for workload in stopping))
        if pods:
            await asyncio.to_thread(self._remove_places, pods, policy)

    def _remove_places(self, pods: list[Pod], policy: Policy) -> None:
        """Also of pods that were made in part."""
        with self._wiring(policy) as wiring:
            for pod in pods:
                wiring.remove_pod(pod, policy.nodes[pod.node])
        removed = [self.places[pod_place(pod.key)] for pod in pods]
        for place in removed:
            if (inode := self._owned.namespaces.get(place.namespace)) is not None:
                netns.remove(place.namespace, inode)
            shutil.rmtree(place.folder, ignore_errors=True)
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
