"""Which program a container runs, and what is refused before anything is made."""

from __future__ import annotations

import sys

import pytest

from pylb.lab import images
from pylb.lab.errors import LabError
from pylb.policy.model import Container, ContainerPort, Protocol
from tests.unit.lab.policies import pod, policy


@pytest.mark.parametrize(
    ("image", "program"),
    [
        ("registry.k8s.io/echoserver:1.4", "echoserver"),
        ("registry.example:5000/a/b/echoserver", "echoserver"),
        ("echoserver@sha256:0123", "echoserver"),
        ("nginx", "nginx"),
        ("nginx:1.25-alpine", "nginx"),
        ("docker.example/library/nginx-unprivileged:latest", "nginx"),
        ("registry.k8s.io/pause:3.9", "pause"),
        ("k8s.gcr.io/e2e-test-images/agnhost:2.39", None),
        ("registry.example/nginx/redis", None),
        ("", None),
    ],
)
def test_program_by_the_base_name_of_the_image(image: str, program: str | None) -> None:
    assert images.program(image) == program


def test_a_command_runs_with_its_args_whatever_the_image() -> None:
    container = Container("c", image="anything", command=("sleep",), args=("inf",))
    assert images.argv(container, "Pod default/p") == ["sleep", "inf"]


def test_what_a_container_is_to_serve() -> None:
    declared = (ContainerPort(81),)
    assert images.served(Container("c", "nginx", ports=declared)) == declared
    assert images.served(Container("c", "nginx")) == (ContainerPort(80),)
    assert images.served(Container("c", "nginx", command=("sleep", "1"))) == ()
    assert images.served(Container("c", "pause")) == ()


def test_args_are_the_command_of_an_image_that_has_none() -> None:
    assert images.argv(Container("c", "busybox", args=("sleep", "9")), "p") == ["sleep", "9"]
    # An image with a program of its own takes no arguments.
    assert images.argv(Container("c", "nginx", args=("-v",)), "p")[-1] == "80/TCP"
    images.check(policy([pod("p", containers=(Container("c", "busybox", args=("sleep", "9")),))]))
    with pytest.raises(LabError, match="'no-such-program' is not installed"):
        images.check(
            policy([pod("p", containers=(Container("c", "b", args=("no-such-program",)),))])
        )


def test_a_program_serves_the_declared_ports_or_its_own() -> None:
    start = [sys.executable, "-P", "-m", "pylb.lab.programs.echoserver"]
    declared = (ContainerPort(8080), ContainerPort(53, Protocol.UDP))
    assert images.argv(Container("c", "echoserver", ports=declared), "p") == [
        *start,
        "8080/TCP",
        "53/UDP",
    ]
    assert images.argv(Container("c", "echoserver"), "p") == [*start, "8080/TCP"]
    assert images.argv(Container("c", "nginx"), "p")[-1] == "80/TCP"
    assert images.argv(Container("c", "pause"), "p")[-1] == "pylb.lab.programs.pause"


@pytest.mark.parametrize(
    ("container", "words"),
    [
        (Container("c", "agnhost:2"), ["Pod default/web", "container c", "'agnhost:2'", "command"]),
        (Container("c", command=("no-such-program",)), ["'no-such-program' is not installed"]),
        (Container("c", command=("/etc/passwd",)), ["'/etc/passwd' is not installed"]),
        (
            Container("c", "nginx", ports=(ContainerPort(53, Protocol.UDP),)),
            ["nginx does not serve UDP port 53"],
        ),
        (Container("c", "pause", ports=(ContainerPort(80),)), ["pause does not serve TCP port 80"]),
    ],
)
def test_what_cannot_run_is_an_error_that_names_it(container: Container, words: list[str]) -> None:
    with pytest.raises(LabError) as caught:
        images.check(policy(pods=[pod("web", containers=(container,))]))
    for word in words:
        assert word in str(caught.value)


def test_a_port_that_nobody_serves_is_fine_when_readiness_is_given() -> None:
    container = Container("c", "pause", ports=(ContainerPort(80),))
    images.check(policy(pods=[pod("web", containers=(container,), ready=True)]))


def test_a_relative_command_is_looked_for_in_the_working_folder() -> None:
    container = Container("c", command=("./sh",), working_dir="/bin")
    images.check(policy(pods=[pod("web", containers=(container,))]))
