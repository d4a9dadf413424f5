"""Pods as manifests describe them: containers, ports, and where they may run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pylb.policy.fields import UNASSIGNED, Reader
from pylb.policy.model import Container, ContainerPort, Pod, Protocol

_HARMLESS_SPEC = (
    "restartPolicy",
    "serviceAccountName",
    "serviceAccount",
    "terminationGracePeriodSeconds",
    "dnsPolicy",
    "securityContext",
    "schedulerName",
    "tolerations",
    "imagePullSecrets",
    "volumes",
    "priority",
    "priorityClassName",
    "enableServiceLinks",
    "preemptionPolicy",
    "automountServiceAccountToken",
    "affinity",
    "topologySpreadConstraints",
)
_HARMLESS_CONTAINER = (
    "imagePullPolicy",
    "resources",
    "securityContext",
    "volumeMounts",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "stdin",
    "tty",
)


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """A pod that is still to be placed and addressed.

    ``selector`` is its nodeSelector; ``owner`` is "Deployment/NAME" or empty, and
    ``ordinal`` its number among the owner's pods.
    """

    pod: Pod
    selector: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    ordinal: int = 0


def read_pod_spec(spec: Reader, namespace: str, name: str) -> PodTemplate:
    """A Pod's ``spec``; labels and status are the caller's."""
    node = spec.text("nodeName")
    selector = spec.labels("nodeSelector")
    hostname = spec.name("hostname")
    if spec.flag("hostNetwork"):
        spec.wrong("hostNetwork", "is not supported: the pod needs a network namespace of its own")
    containers = tuple(
        read_container(entry, f"container-{i}") for i, entry in enumerate(spec.each("containers"))
    )
    if not containers:
        spec.wrong("containers", "expected at least one container")
    if "initContainers" in spec:
        spec.notes.warn(spec.at("initContainers"), "is not acted on: they are not run")
    spec.done(*_HARMLESS_SPEC, "initContainers")
    pod = Pod(namespace, name, node, UNASSIGNED, containers=containers, hostname=hostname)
    return PodTemplate(pod, selector)


def read_container(entry: Reader, default_name: str) -> Container:
    """A container: what is run, and the ports it declares."""
    name = entry.name("name", default_name)
    image = entry.text("image")
    command, args = entry.texts("command"), entry.texts("args")
    env = {}
    for variable in entry.each("env"):
        env[variable.text("name", required=True)] = variable.text("value")
        if "valueFrom" in variable:
            variable.notes.warn(variable.at("valueFrom"), "is not acted on")
    ports = []
    for port in entry.each("ports"):
        number = port.port("containerPort", required=True)
        protocol = Protocol(port.choice("protocol", tuple(p.value for p in Protocol), "TCP"))
        ports.append(ContainerPort(number, protocol, port.name("name")))
        port.done("hostIP")
    working_dir = entry.text("workingDir")
    for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
        if probe in entry:
            message = "is not acted on: a container is ready when its ports listen"
            entry.notes.warn(entry.at(probe), message)
            entry.raw(probe)
    entry.done(*_HARMLESS_CONTAINER)
    return Container(name, image, command, args, env, tuple(ports), working_dir)
