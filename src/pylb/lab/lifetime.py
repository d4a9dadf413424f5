"""Bring a lab up, take it down, find its places: what the command line calls.

A lab's folder is made first and removed last, so it is what says that there is
a lab of that name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from pylb.control.client import ApiError, Client, Unreachable
from pylb.control.paths import LabPaths, run_root
from pylb.dataplane.kernel.names import KERNELS, check_overlay
from pylb.lab import removal
from pylb.lab.cluster import check, check_free
from pylb.lab.errors import LabError
from pylb.lab.names import Place, check_lab_name, find, places
from pylb.lab.owned import Owned, Process
from pylb.lab.process import environment, python, python_path
from pylb.plan.tables import PlanError
from pylb.policy.model import Overlay
from pylb.policy.objects import RawObject
from pylb.policy.store import Store, read_all

Progress = Callable[[str], None]

DATAPLANES = ("native", "python", *KERNELS)

READY_WITHIN = 30.0
"""Seconds that pods have to become ready."""
_UP = 30.0
"""Seconds on top of that until `up` gives up on a controller that says nothing..."""
_UP_EACH = 0.01
"""...and for each object, of which there may be thousands on a machine that is busy."""
_DOWN = 20.0
"""Seconds that a controller may take to end its lab before that is done without it."""
_TUN = Path("/dev/net/tun")
_TUNGETFEATURES = 0x800454CF
"""linux/if_tun.h; no other driver answers it."""

_controllers: dict[int, subprocess.Popen[bytes]] = {}
"""Controllers that this process started, for `down` to wait for if it is called here too;
mostly they outlive it."""


def up(
    files: Sequence[str],
    name: str,
    dataplane: str,
    overlay: str | None,
    progress: Progress,
    *,
    ready_within: float = READY_WITHIN,
) -> None:
    """Bring up the lab ``name`` from manifests and return when its pods are ready.

    ``overlay`` overrides the Lab document's.  ``progress`` is called with a
    sentence at every step; pods have ``ready_within`` seconds.  Raises `LabError`
    and `ManifestError`; then nothing of the lab is left.
    """
    check_lab_name(name)
    _check_machine(dataplane)
    raws = read_all(files)
    store = Store.empty(_overlay(overlay)).apply(raws)
    _check_overlay(dataplane, store.policy.lab.overlay)
    check(name, None, store.policy)
    _check_free(name, list(places(name, store.policy).values()))
    for warning in store.warnings:
        progress(f"warning: {warning}")
    request = {
        "dataplane": dataplane,
        "readyWithin": ready_within,
        "overlay": store.policy.lab.overlay.value,
        "objects": [_sent(raw) for raw in raws],
    }
    paths = LabPaths(name)
    _make_folder(name, paths)
    try:
        _start(name, paths, request, progress)
    except BaseException:
        # Also for Ctrl-C: a lab is up or it is not there.
        _clear(paths)
        raise


def _overlay(name: str | None) -> Overlay | None:
    try:
        return None if name is None else Overlay(name)
    except ValueError:
        expected = ", ".join(overlay.value for overlay in Overlay)
        raise LabError(f"overlay {name!r}: expected one of {expected}") from None


def _sent(raw: RawObject) -> dict[str, Any]:
    return {"file": raw.file, "document": raw.document, "body": raw.body}


def need_root() -> None:
    """Raise `LabError` unless this process may make namespaces."""
    if os.geteuid() != 0:
        raise LabError("a lab is made of network namespaces, and they need root: run it with sudo")


def _check_machine(dataplane: str) -> None:
    need_root()
    if dataplane not in DATAPLANES:
        expected = ", ".join(DATAPLANES)
        raise LabError(f"dataplane {dataplane!r} is not one that this pylb has: {expected}")
    if dataplane in KERNELS:
        tool = "iptables-restore" if dataplane == "kernel-iptables" else "nft"
        if shutil.which(tool) is None:
            raise LabError(f"dataplane {dataplane} needs {tool}, which is not installed")
        return
    try:
        descriptor = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, _TUNGETFEATURES, bytes(4))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise LabError(
            f"{_TUN}: {error.strerror}: the daemons need TUN devices (modprobe tun, or in a "
            "container `mknod /dev/net/tun c 10 200`)"
        ) from None


def _check_overlay(dataplane: str, overlay: Overlay) -> None:
    """Raise `LabError` when the dataplane has no such overlay."""
    if dataplane in KERNELS:
        try:
            check_overlay(overlay.value)
        except PlanError as error:
            raise LabError(str(error)) from None


def _check_free(name: str, wanted: list[Place]) -> None:
    paths = LabPaths(name)
    if paths.root.exists():
        controller = Owned.load(paths.owned).controller
        state = "is up already" if controller and controller.alive else "was left by a crash"
        raise LabError(
            f"lab {name!r} {state}: take it down first with `pylb lab down --name {name}`"
        )
    check_free(wanted)


def _make_folder(name: str, paths: LabPaths) -> None:
    run_root().mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        paths.root.mkdir(mode=0o700)
    except FileExistsError:
        raise LabError(
            f"lab {name!r} is up already: take it down first with `pylb lab down --name {name}`"
        ) from None


def _start(name: str, paths: LabPaths, request: dict[str, Any], progress: Progress) -> None:
    owned = Owned(paths.owned)
    with paths.log.open("ab") as log:
        process = subprocess.Popen(
            python("-m", "pylb.lab.controller", name),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**environment(), **python_path()},
            cwd="/",
            start_new_session=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        # It waits for its request, so it makes nothing before it is recorded.
        owned.set_controller(process.pid)
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(json.dumps(request, default=str).encode())
        patience = request["readyWithin"] + _UP + _UP_EACH * len(request["objects"])
        _follow(process.stdout, paths, patience, progress)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        process.stdout.close()
    _controllers[process.pid] = process


def _follow(told: IO[bytes], paths: LabPaths, patience: float, progress: Progress) -> None:
    """Show what the controller tells until the lab is up; raises `LabError` if it fails."""
    deadline = time.monotonic() + patience
    rest = b""
    while True:
        wait = max(0.0, deadline - time.monotonic())
        if not select.select([told], [], [], wait)[0]:
            raise LabError(f"the lab's controller is not done after {patience:g} s")
        data = os.read(told.fileno(), 1 << 16)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "progress" in message:
                progress(message["progress"])
            elif "error" in message:
                raise LabError(message["error"])
            else:
                return
        if not data:
            log = paths.log.read_text(errors="replace").strip().splitlines()
            last = f": {log[-1]}" if log else ""
            raise LabError(f"the lab's controller ended before the lab was up{last}")


def _clear(paths: LabPaths) -> list[str]:
    """Remove what is left of a lab, without its controller."""
    if not paths.root.exists():
        return []
    with _uninterrupted():
        return removal.remove_all(Owned.load(paths.owned), paths.root)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C: interrupted once more, half of a lab would stay."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def down(name: str) -> list[str]:
    """Take a lab down, with its controller or, when that is dead, without.

    Gives what was removed.  Raises `LabError` when there is no lab of that name.
    """
    check_lab_name(name)
    need_root()
    paths = LabPaths(name)
    if not paths.root.exists():
        raise LabError(f"no lab called {name!r} is up")
    try:
        controller = Owned.load(paths.owned).controller
    except LabError:
        return _down_without_record(paths)
    removed: list[str] = []
    if controller is not None and controller.alive:
        client = Client(paths.api, who="controller", timeout=_DOWN)
        with contextlib.suppress(Unreachable, ApiError):
            removed += client.post("/down")["removed"]
            _wait_for_end(controller)
    removed += _clear(paths)
    if controller is not None and (started := _controllers.pop(controller.pid, None)):
        started.wait()
    return removed


def _down_without_record(paths: LabPaths) -> list[str]:
    """What the record says, a controller that still runs knows without it.

    Raises `LabError`, with what to do by hand, when none answers.
    """
    client = Client(paths.api, who="controller", timeout=_DOWN)
    with contextlib.suppress(Unreachable, ApiError):
        removed: list[str] = client.post("/down")["removed"]
        return removed
    return _clear(paths)


def _wait_for_end(process: Process) -> None:
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError as error:
        if error.errno != errno.ESRCH:
            raise
        return
    try:
        if process.alive:
            select.select([descriptor], [], [], 2.0)
    finally:
        os.close(descriptor)


def find_place(name: str, where: str) -> Place:
    """The place of a lab that ``where`` means; raises `LabError`.

    A pod may be written ``web-1``, ``NAMESPACE/POD`` or ``NAMESPACE.POD``.
    """
    check_lab_name(name)
    paths = LabPaths(name)
    if not paths.root.exists():
        raise LabError(f"no lab called {name!r} is up")
    return find(name, where, Owned.load(paths.owned).namespaces)
