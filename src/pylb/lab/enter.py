"""Enter a place of the lab and become a program there.

Run as a script it is the lab's launcher, so it imports next to nothing (with
``-I -S`` it starts in some 15 ms)::

    enter.py [--gate FD] [--cwd DIR] NAMESPACE FOLDER -- COMMAND...

NAMESPACE is the path of a network namespace.  FOLDER holds the place's own
``hostname``, ``hosts`` and ``resolv.conf``, which are bound over those in /etc
inside a mount namespace that only this program and its children see; the
host's /etc is not touched.  With ``--gate`` the command runs only after a byte
came over that pipe: its writer records the process first, and when the writer
dies before, the pipe ends and so does the launcher.
"""

from __future__ import annotations

import ctypes
import os
import sys

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUTS = 0x04000000
_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SLAVE = 0x80000
_SIGPIPE, _SIGXFSZ = 13, 25
_SIG_DFL = None

_ETC = ("hosts", "hostname", "resolv.conf")

NOT_EXECUTABLE = 126
NOT_FOUND = 127
"""Exit statuses for a command that cannot be run, as shells use them."""

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def join_network(namespace: str) -> None:
    """Move the calling thread into the network namespace at the path; raises OSError."""
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        join_network_at(descriptor)
    finally:
        os.close(descriptor)


def join_network_at(descriptor: int) -> None:
    """Move the calling thread into the open network namespace; raises OSError."""
    _check(_libc.setns(descriptor, _CLONE_NEWNET), "setns")


def new_network() -> None:
    """Move the calling thread into a network namespace of its own; raises OSError."""
    _check(_libc.unshare(_CLONE_NEWNET), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    """mount(2); raises OSError."""
    args = (os.fsencode(source), os.fsencode(target), kind and kind.encode())
    _check(_libc.mount(*args, ctypes.c_ulong(flags), None), f"mount {target}")


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2); raises OSError."""
    _check(_libc.umount2(os.fsencode(target), flags), f"umount {target}")


def enter(namespace: str, folder: str) -> None:
    """Move the calling thread into a place: network, hostname, /etc files, /sys.

    Raises OSError.  What is mounted on the host later still appears inside
    (the mounts are slaves); what is mounted inside never appears on the host.
    """
    join_network(namespace)
    _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWUTS), "unshare")
    mount("none", "/", None, _MS_SLAVE | _MS_REC)
    try:
        with open(f"{folder}/hostname", "rb") as file:  # noqa: PTH123 - pathlib is slow to import
            hostname = file.read().strip()
        _check(_libc.sethostname(hostname, ctypes.c_size_t(len(hostname))), "sethostname")
    except FileNotFoundError:
        pass  # a place without a folder keeps the host's name
    for name in _ETC:
        own, etc = f"{folder}/{name}", f"/etc/{name}"
        if os.access(own, os.F_OK) and os.access(etc, os.F_OK):
            mount(own, etc, None, _MS_BIND)
    try:  # noqa: SIM105 - contextlib is slow to import
        # /sys shows the network devices of the namespace that it was mounted in.
        mount("sysfs", "/sys", "sysfs", 0)
    except OSError:
        pass  # some containers forbid it; only programs that read /sys/class/net mind


def become(command: list[str]) -> int:
    """Replace this process by ``command``; gives an exit status if that cannot be."""
    # Python ignores these two, and what is ignored stays so over exec.
    _libc.signal(_SIGPIPE, _SIG_DFL)
    _libc.signal(_SIGXFSZ, _SIG_DFL)
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        print(f"pylb: {command[0]}: command not found", file=sys.stderr)
        return NOT_FOUND
    except OSError as error:
        print(f"pylb: {command[0]}: {error.strerror}", file=sys.stderr)
        return NOT_EXECUTABLE


def launcher(
    namespace: str, folder: str, command: list[str], *, gate: int | None = None, cwd: str = ""
) -> list[str]:
    """The argv that runs ``command`` at a place."""
    argv = [sys.executable, "-I", "-S", __file__]
    if gate is not None:
        argv += ["--gate", str(gate)]
    if cwd:
        argv += ["--cwd", cwd]
    return [*argv, namespace, folder, "--", *command]


def exec_in(lab: str, where: str, command: list[str]) -> int:
    """Become ``command`` at a place of a lab: a pod, a node, client, router, an outside host.

    Gives 126 or 127 when it cannot be executed, and otherwise does not return.
    Raises LabError when there is no such lab or place.
    """
    # Here, because the launcher runs where pylb cannot be imported.
    from pylb.lab.errors import LabError
    from pylb.lab.lifetime import find_place

    place = find_place(lab, where)
    try:
        enter(f"/run/netns/{place.namespace}", str(place.folder))
    except OSError as error:
        raise LabError(f"cannot enter {where}: {error.strerror}") from None
    return become(command)


def main(argv: list[str]) -> int:
    """The launcher; returns only when the command could not be run."""
    split = argv.index("--")
    own, command = argv[:split], argv[split + 1 :]
    gate, cwd = "", ""
    while own[0].startswith("--"):
        if own[0] == "--gate":
            gate = own[1]
        else:
            cwd = own[1]
        own = own[2:]
    if gate:
        if not os.read(int(gate), 1):
            return 1
        os.close(int(gate))
    try:
        enter(own[0], own[1])
        if cwd:
            os.chdir(cwd)
    except OSError as error:
        print(f"pylb: cannot enter {own[0]}: {error.strerror}", file=sys.stderr)
        return NOT_EXECUTABLE
    return become(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
