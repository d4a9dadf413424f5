"""What a container runs: its command, or the built-in program that its image names."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable

from pylb.lab.errors import LabError
from pylb.policy.model import Container, ContainerPort, OutsideHost, Pod, Policy, Protocol

_DEFAULT_PORT = {"echoserver": 8080, "nginx": 80}
"""The port that a program serves when its container declares none."""

_PROTOCOLS = {
    "echoserver": (Protocol.TCP, Protocol.UDP),
    "nginx": (Protocol.TCP,),
    "pause": (),
}
"""What a program can serve of the ports that its container declares."""


_USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def search_path() -> str:
    """The PATH of programs in a lab: that of `pylb lab up`, and what it may lack of the usual."""
    folders = [*os.environ.get("PATH", "").split(":"), *_USUAL_PATH.split(":")]
    return ":".join(dict.fromkeys(folder for folder in folders if folder))


def base_name(image: str) -> str:
    """The last part of an image's name: ``registry.k8s.io/echoserver:1.4`` is echoserver."""
    return image.rsplit("/", 1)[-1].split("@", 1)[0].split(":", 1)[0]


def program(image: str) -> str | None:
    """The built-in program for an image, or None when there is none."""
    name = base_name(image)
    if name.startswith("nginx"):
        return "nginx"
    return name if name in ("echoserver", "pause") else None


def argv(container: Container, owner: str) -> list[str]:
    """The command of a container; ``owner`` names its pod or host in errors.

    As in Kubernetes, ``args`` follow ``command``, and are the command of an image
    that has none of its own.  Raises `LabError` when there is neither a built-in
    program nor a command.
    """
    if command := given_command(container):
        return command
    name = program(container.image)
    if name is None:
        raise LabError(
            f"{owner}: container {container.name}: image {container.image!r} is none of the "
            "built-in programs (echoserver, pause, nginx and names that begin so): "
            "expected a command"
        )
    ports = [f"{each.port}/{each.protocol.value}" for each in served(container)]
    return [sys.executable, "-P", "-m", f"pylb.lab.programs.{name}", *ports]


def served(container: Container) -> tuple[ContainerPort, ...]:
    """The ports that a container declares, else those that its built-in program serves anyway."""
    if container.ports or given_command(container):
        return container.ports
    own = _DEFAULT_PORT.get(program(container.image) or "")
    return () if own is None else (ContainerPort(own),)


def given_command(container: Container) -> list[str]:
    """What a container is told to run, [] when that is for its image to say."""
    if container.command or program(container.image) is None:
        return [*container.command, *container.args]
    return []


def owner_name(owner: Pod | OutsideHost) -> str:
    """How errors name what has containers."""
    if isinstance(owner, Pod):
        return f"Pod {owner.namespace}/{owner.name}"
    return f"Lab: outside host {owner.name}"


def check(policy: Policy) -> None:
    """Raise `LabError` if any container cannot be run, or a pod could never be ready."""
    owners: Iterable[Pod | OutsideHost] = (*policy.pods.values(), *policy.lab.outside)
    for owner in owners:
        for container in owner.containers:
            argv(container, owner_name(owner))
            _check_command(container, owner_name(owner))
            if isinstance(owner, Pod) and owner.ready is None and not given_command(container):
                _check_ports(container, owner_name(owner))


def _check_command(container: Container, owner: str) -> None:
    """Pods see this machine's own files: a command that is not there will not be."""
    command = given_command(container)
    if not command:
        return
    name = command[0]
    path = os.path.join(container.working_dir or "/", name) if "/" in name else name  # noqa: PTH118
    if shutil.which(path, path=container.env.get("PATH", search_path())) is None:
        raise LabError(
            f"{owner}: container {container.name}: command: {name!r} is not installed on this "
            "machine: expected a program in its PATH, or a path"
        )


def _check_ports(container: Container, owner: str) -> None:
    name = program(container.image) or ""
    for declared in container.ports:
        if declared.protocol not in _PROTOCOLS[name]:
            raise LabError(
                f"{owner}: container {container.name}: the built-in {name} does not serve "
                f"{declared.protocol.value} port {declared.port}: expected a command"
            )
