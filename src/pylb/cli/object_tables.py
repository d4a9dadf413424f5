"""Objects as rows of the tables that kubectl prints.

Objects come normalised from the controller; a field that is not there is told as
kubectl tells it, ``<none>`` or ``<unknown>``, and never an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pylb.cli.kinds import (
    ADDRESS_POOL,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    ENDPOINTS,
    LAB,
    LOCAL_REDIRECT,
    NODE,
    POD,
    REPLICA_SET,
    SERVICE,
    Kind,
)

Object = Mapping[str, Any]

_NONE = "<none>"
_MOST_ENDPOINTS = 3


def header(kind: Kind, *, wide: bool) -> list[str]:
    """The column titles of a kind."""
    narrow, extra = _HEADERS[kind.name]
    return [*narrow, *(extra if wide else ())]


def row(kind: Kind, item: Object, now: datetime, *, wide: bool) -> list[str]:
    """An object's cells, in the order of `header`; ``now`` is what its age is up to."""
    age = _age(item, now)
    narrow, extra = _ROWS[kind.name](item, age)
    return [*narrow, *(extra if wide else ())]


def at(item: Any, *path: str, default: Any = None) -> Any:
    """The value at ``path`` of nested mappings, ``default`` where it ends early or is None."""
    for name in path:
        if not isinstance(item, Mapping):
            return default
        item = item.get(name)
    return default if item is None else item


def name_of(item: Object) -> str:
    """``metadata.name``."""
    return str(at(item, "metadata", "name", default=""))


def namespace_of(item: Object) -> str:
    """``metadata.namespace``, "" for what has none."""
    return str(at(item, "metadata", "namespace", default=""))


def labels_of(item: Object) -> Mapping[str, str]:
    """``metadata.labels``."""
    labels: Mapping[str, str] = at(item, "metadata", "labels", default={})
    return labels


def human_duration(seconds: int) -> str:
    """A duration as kubectl abbreviates it: 5s, 2m30s, 45m, 5h12m, 3d, 2y.

    The smaller unit is told only while it matters.
    """
    if seconds < 0:
        return "0s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 365 * 2:
        return f"{days}d"
    years = days // 365
    return _two(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}" + (f"{small}{small_unit}" if small else "")


def _age(item: Object, now: datetime) -> str:
    created = at(item, "metadata", "creationTimestamp")
    try:
        born = datetime.fromisoformat(str(created).replace("Z", "+00:00"))
        return human_duration(int((now - born).total_seconds()))
    except (ValueError, TypeError):
        return "<unknown>"


_Cells = tuple[list[str], list[str]]


def _node(item: Object, age: str) -> _Cells:
    addresses = at(item, "status", "addresses", default=[])
    ip = next((at(a, "address") for a in addresses if at(a, "type") == "InternalIP"), _NONE)
    roles = sorted(
        label.removeprefix("node-role.kubernetes.io/")
        for label in labels_of(item)
        if label.startswith("node-role.kubernetes.io/")
    )
    state = "Ready" if _condition(item, "Ready") else "NotReady"
    version = str(at(item, "status", "nodeInfo", "kubeletVersion", default=_NONE))
    narrow = [name_of(item), state, ",".join(roles) or _NONE, age, version]
    return narrow, [str(ip), str(at(item, "spec", "podCIDR", default=_NONE))]


def _pod(item: Object, age: str) -> _Cells:
    containers = at(item, "spec", "containers", default=[])
    told = at(item, "status", "containerStatuses", default=[])
    if told:
        ready = sum(1 for status in told if at(status, "ready") is True)
    else:
        ready = len(containers) if _condition(item, "Ready") else 0
    restarts = sum(int(at(status, "restartCount", default=0)) for status in told)
    narrow = [name_of(item), f"{ready}/{len(containers)}", _phase(item), str(restarts), age]
    ip = at(item, "status", "podIP", default=_NONE)
    return narrow, [str(ip), str(at(item, "spec", "nodeName", default=_NONE))]


def _phase(item: Object) -> str:
    if at(item, "metadata", "deletionTimestamp") is not None:
        return "Terminating"
    for status in at(item, "status", "containerStatuses", default=[]):
        reason = at(status, "state", "waiting", "reason") or at(
            status, "state", "terminated", "reason"
        )
        if reason:
            return str(reason)
    return str(at(item, "status", "phase", default="Unknown"))


def _service(item: Object, age: str) -> _Cells:
    kind = str(at(item, "spec", "type", default="ClusterIP"))
    selector = at(item, "spec", "selector", default={})
    narrow = [
        name_of(item),
        kind,
        str(at(item, "spec", "clusterIP", default=_NONE) or _NONE),
        _external_ip(item, kind),
        ",".join(_service_port(port) for port in at(item, "spec", "ports", default=[])) or _NONE,
        age,
    ]
    return narrow, [",".join(f"{k}={v}" for k, v in sorted(selector.items())) or _NONE]


def _external_ip(item: Object, kind: str) -> str:
    if kind == "ExternalName":
        return str(at(item, "spec", "externalName", default=_NONE))
    given = list(at(item, "spec", "externalIPs", default=[]))
    if kind == "LoadBalancer":
        ingress = at(item, "status", "loadBalancer", "ingress", default=[])
        given = [at(i, "ip") or at(i, "hostname") for i in ingress] + given
        return ",".join(str(g) for g in given) or "<pending>"
    return ",".join(str(g) for g in given) or _NONE


def _service_port(port: Object) -> str:
    node_port = at(port, "nodePort", default=0)
    number = f"{at(port, 'port')}:{node_port}" if node_port else f"{at(port, 'port')}"
    return f"{number}/{at(port, 'protocol', default='TCP')}"


def _endpoint_slice(item: Object, age: str) -> _Cells:
    ports = [str(at(p, "port", default="*")) for p in at(item, "ports", default=[])]
    addresses = [str(a) for e in at(item, "endpoints", default=[]) for a in at(e, "addresses")]
    narrow = [
        name_of(item),
        str(at(item, "addressType", default="IPv4")),
        ",".join(ports) or "<unset>",
        _some(addresses) or "<unset>",
        age,
    ]
    return narrow, []


def _endpoints(item: Object, age: str) -> _Cells:
    sockets = [
        f"{at(address, 'ip')}:{at(port, 'port')}"
        for subset in at(item, "subsets", default=[])
        for port in at(subset, "ports", default=[])
        for address in at(subset, "addresses", default=[])
    ]
    return [name_of(item), _some(sockets) or _NONE, age], []


def _some(values: Sequence[str]) -> str:
    more = len(values) - _MOST_ENDPOINTS
    shown = ",".join(values[:_MOST_ENDPOINTS])
    return f"{shown} + {more} more..." if more > 0 else shown


def _deployment(item: Object, age: str) -> _Cells:
    wanted = at(item, "spec", "replicas", default=1)
    ready, current, available = (
        str(at(item, "status", name, default=0))
        for name in ("readyReplicas", "updatedReplicas", "availableReplicas")
    )
    return [name_of(item), f"{ready}/{wanted}", current, available, age], _template(item)


def _replica_set(item: Object, age: str) -> _Cells:
    wanted = str(at(item, "spec", "replicas", default=1))
    current, ready = (
        str(at(item, "status", name, default=0)) for name in ("replicas", "readyReplicas")
    )
    return [name_of(item), wanted, current, ready, age], _template(item)


def _template(item: Object) -> list[str]:
    """The wide columns of what has a pod template."""
    containers = at(item, "spec", "template", "spec", "containers", default=[])
    labels = at(item, "spec", "selector", "matchLabels", default={})
    return [
        ",".join(str(at(c, "name", default="")) for c in containers) or _NONE,
        ",".join(str(at(c, "image", default="")) for c in containers) or _NONE,
        ",".join(f"{k}={v}" for k, v in sorted(labels.items())) or _NONE,
    ]


def _named(item: Object, age: str) -> _Cells:
    return [name_of(item), age], []


def _lab(item: Object, age: str) -> _Cells:
    overlay = str(at(item, "spec", "overlay", "type", default=_NONE))
    underlay = str(at(item, "spec", "underlay", "subnet", default=_NONE))
    services = str(at(item, "spec", "serviceCIDR", default=_NONE))
    return [name_of(item), overlay, underlay, services, age], []


def _condition(item: Object, which: str) -> bool:
    conditions = at(item, "status", "conditions", default=[])
    return any(at(c, "type") == which and at(c, "status") == "True" for c in conditions)


_HEADERS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    NODE.name: (
        ("NAME", "STATUS", "ROLES", "AGE", "VERSION"),
        ("INTERNAL-IP", "POD-CIDR"),
    ),
    POD.name: (("NAME", "READY", "STATUS", "RESTARTS", "AGE"), ("IP", "NODE")),
    SERVICE.name: (
        ("NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"),
        ("SELECTOR",),
    ),
    ENDPOINT_SLICE.name: (("NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"), ()),
    ENDPOINTS.name: (("NAME", "ENDPOINTS", "AGE"), ()),
    DEPLOYMENT.name: (
        ("NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"),
        ("CONTAINERS", "IMAGES", "SELECTOR"),
    ),
    REPLICA_SET.name: (
        ("NAME", "DESIRED", "CURRENT", "READY", "AGE"),
        ("CONTAINERS", "IMAGES", "SELECTOR"),
    ),
    LOCAL_REDIRECT.name: (("NAME", "AGE"), ()),
    ADDRESS_POOL.name: (("NAME", "AGE"), ()),
    LAB.name: (("NAME", "OVERLAY", "UNDERLAY", "SERVICE-CIDR", "AGE"), ()),
}

_ROWS = {
    NODE.name: _node,
    POD.name: _pod,
    SERVICE.name: _service,
    ENDPOINT_SLICE.name: _endpoint_slice,
    ENDPOINTS.name: _endpoints,
    DEPLOYMENT.name: _deployment,
    REPLICA_SET.name: _replica_set,
    LOCAL_REDIRECT.name: _named,
    ADDRESS_POOL.name: _named,
    LAB.name: _lab,
}
