"""The daemon of one node: takes what it needs, puts it together, and waits for its end.

This is the composition root: the only place that knows every part.  A daemon
that ends on SIGTERM or SIGINT leaves the node's routing and its TUN in place;
``--clean`` removes them.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import uvloop

from pylb.control.http import Server
from pylb.control.paths import LabPaths, NodePaths
from pylb.dataplane.kernel.names import KERNELS, Options
from pylb.dataplane.native.datapath import NativeDataplane
from pylb.dataplane.python.datapath import PythonDataplane
from pylb.node import folder, logs, tun
from pylb.node.api import routes
from pylb.node.desired import Desired, Refused
from pylb.node.errors import NodeError
from pylb.node.health import Health
from pylb.node.kernel.dataplane import KernelDataplane
from pylb.node.kernel.node import KernelNode
from pylb.node.kernel.plumbing import KernelPlumbing
from pylb.node.kernel.rules import Iptables, Nftables
from pylb.node.kernel.rules import check as check_tools
from pylb.node.native_pump import NO_LIMITS, Limits, NativePump
from pylb.node.node import Node
from pylb.node.plumbing import Names, Plumbing, refuse_initial_namespace
from pylb.node.served import ServedNode
from pylb.node.tun import Tun
from pylb.policy.model import Overlay

log = logs.Log(__name__)


def run(
    node: str,
    files: Sequence[str],
    lab: str,
    run_dir: Path | str | None = None,
    dataplane: str = "native",
    overlay: str | None = None,
    uplink: str = "eth0",
    clean: bool = False,
    controlled: bool = False,
    limits: Limits = NO_LIMITS,
) -> int:
    """Run the daemon of ``node`` in the current network namespace; gives its exit status.

    The policy is read from ``files``, or with ``controlled`` awaited on the
    control API.  ``run_dir`` holds its socket, secret and lock (default: the
    lab's folder for the node); ``overlay`` takes the place of the policy's.
    ``limits`` is what the native dataplane does without though the kernel has it.
    With ``clean`` it removes the plumbing and these files instead.  Raises
    `NodeError` for whatever keeps it from starting, and then has made nothing.
    """
    refuse_initial_namespace()
    paths = LabPaths(lab).node(node) if run_dir is None else NodePaths(Path(run_dir))
    names = Names(uplink=uplink)
    userspace = Plumbing(names, paths.root / "plumbing.json")
    kernel = KernelPlumbing(names, paths.root / "kernel.json")
    with folder.alone(node, paths, lambda: userspace.present or kernel.present) as made:
        if clean:
            for rules in (Nftables(), Iptables()):
                rules.clean()
            kernel.clean()
            userspace.clean()
            # A folder that was named is whose it was; the others are the lab's that is none.
            parents = (paths.root, *paths.root.parents[:2])
            folder.clear(paths, parents if run_dir is None else made)
            return 0
        desired = Desired(node, _overlay(overlay))
        make: Callable[[], ServedNode]
        if dataplane in KERNELS:
            _not_both(node, userspace)
            make = _kernel(desired, dataplane, kernel)
        else:
            _not_both(node, kernel)
            tun.check()
            make = _userspace(desired, dataplane, folder.secret(paths.secret), userspace, limits)

        logs.configure()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            policy = None if controlled else files
            return runner.run(_serve(make, policy, paths))


async def _serve(
    make: Callable[[], ServedNode], files: Sequence[str] | None, paths: NodePaths
) -> int:
    """Serve until a signal asks for the end."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    node = make()
    server = Server(paths.api, routes(node))
    health = Health(node)
    try:
        if files is not None:
            await _first_policy(node, files)
        await server.start()
        await health.start()
        name = node.dataplane_name
        log.info("serving", node=node.desired.node, dataplane=name, socket=str(paths.api))
        await asked.wait()
        log.info("ending")
    finally:
        await health.close()
        await server.close()
        # A commit that is under way is either done or not begun when the descriptors go.
        async with node.turn:
            node.close()
    return 0


async def _first_policy(node: ServedNode, files: Sequence[str]) -> None:
    async with node.turn:
        try:
            staged = await node.stage(lambda: node.desired.from_files(1, files))
            for warning in staged.store.warnings:
                log.warning("manifest", warning=warning)
            await node.commit(staged)
        except (Refused, ValueError) as error:
            raise NodeError(str(error)) from None


def _kernel(desired: Desired, name: str, plumbing: KernelPlumbing) -> Callable[[], ServedNode]:
    """What makes the node whose dataplane is the kernel, loaded in the way called ``name``."""
    check_tools(name)
    options = Options(track_overlay=name != "kernel-notrack")
    rules = Iptables(options) if name == "kernel-iptables" else Nftables(options)
    return lambda: KernelNode(desired, name, KernelDataplane(rules), plumbing)


def _not_both(node: str, other: Plumbing | KernelPlumbing) -> None:
    """Raise `NodeError` when another kind of dataplane has left its plumbing here."""
    if other.present:
        kind = "kernel" if isinstance(other, KernelPlumbing) else "userspace"
        raise NodeError(
            f"this namespace is plumbed for a {kind} dataplane: "
            f"`pylb daemon --node {node} --clean` removes that"
        )


def _userspace(
    desired: Desired,
    name: str,
    secret: bytes,
    plumbing: Plumbing,
    limits: Limits = NO_LIMITS,
) -> Callable[[], ServedNode]:
    """What makes the node whose packets pass through this process."""
    if name == "python":
        return lambda: Node(desired, name, PythonDataplane(secret), plumbing)
    if name == "native":
        native = NativeDataplane(secret)
        return lambda: Node(
            desired,
            name,
            native,
            plumbing,
            partial(Tun, most=limits.tun),
            partial(NativePump, native, limits.overlay),
        )
    expected = ", ".join(("native", "python", *KERNELS))
    raise NodeError(f"dataplane {name}: not in this build; expected one of {expected}")


def _overlay(name: str | None) -> Overlay | None:
    try:
        return None if name is None else Overlay(name)
    except ValueError:
        known = ", ".join(overlay.value for overlay in Overlay)
        raise NodeError(f"overlay {name}: expected one of {known}") from None
