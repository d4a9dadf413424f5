"""A plan out of the JSON that `Plan.to_json` writes: what a daemon answers to ``GET /plan``."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

from pylb.plan.tables import (
    MAGLEV_SIZE,
    Backend,
    BackendState,
    Frontend,
    FrontendKey,
    FrontendKind,
    Others,
    OverlayTable,
    Peer,
    Plan,
    Prefix,
    Timeouts,
)


def plan_from_json(data: Mapping[str, Any]) -> Plan:
    """The plan that ``data`` tells; raises ValueError naming what is not there or cannot be."""
    try:
        return _plan(data)
    except KeyError as error:
        raise ValueError(f"a plan without {error.args[0]!r}") from None
    except TypeError as error:
        raise ValueError(f"a plan of the wrong shape: {error}") from None


def _plan(data: Mapping[str, Any]) -> Plan:
    overlay = data["overlay"]
    frontends = [_frontend(each) for each in data["frontends"]]
    return Plan(
        node=data["node"],
        node_ip=_address(data["nodeIP"]),
        bridge_ip=_address(data["bridgeIP"]),
        tunnel_ip=_address(data["tunnelIP"]),
        pod_cidr=_prefix(data["podCIDR"]),
        underlay=_prefix(data["underlay"]),
        underlay_mtu=data["underlayMTU"],
        overlay=OverlayTable(
            overlay["kind"],
            overlay["port"],
            overlay["vni"],
            _mac(overlay["mac"]),
            overlay["mtu"],
        ),
        masquerade=data["masquerade"],
        service_cidr=_prefix(data["serviceCIDR"]),
        node_ports=_range(data["nodePorts"]),
        masquerade_ports=_range(data["masqueradePorts"]),
        timeouts=Timeouts(**data["timeouts"]),
        peers={
            name: Peer(name, _address(p["address"]), _prefix(p["subnet"]), _mac(p["mac"]))
            for name, p in data["peers"].items()
        },
        pods={_address(a): name for a, name in data["pods"].items()},
        cluster_pods={name: _address(a) for name, a in data["clusterPods"].items()},
        frontends={frontend.key: frontend for frontend in frontends},
        services={name: tuple(map(_key, keys)) for name, keys in data["services"].items()},
        addresses={_address(a): count for a, count in data["addresses"].items()},
        maglev_size=data.get("maglevSize", MAGLEV_SIZE),
    )


def _frontend(data: Mapping[str, Any]) -> Frontend:
    return Frontend(
        key=FrontendKey(_address(data["address"]), data["port"], data["protocol"]),
        kind=FrontendKind[data["kind"]],
        service=data["service"],
        scheduler=data["scheduler"],
        backends=tuple(
            Backend(
                _address(each["address"]),
                each["port"],
                each["weight"],
                each["local"],
                BackendState[each["state"]],
            )
            for each in data["backends"]
        ),
        active=tuple(data["active"]),
        local_only=data["localOnly"],
        others=Others[data.get("others", "NOBODY")],
        other=tuple(data.get("other", ())),
        elsewhere=data.get("elsewhere", False),
        affinity=data.get("affinity", 0),
        sources=tuple(_prefix(each) for each in data.get("sources", ())),
        announced=data.get("announced", False),
    )


def _key(text: str) -> FrontendKey:
    address, _, rest = text.partition(":")
    port, _, protocol = rest.partition("/")
    return FrontendKey(_address(address), int(port), int(protocol))


def _address(text: str) -> int:
    return int(IPv4Address(text))


def _prefix(text: str) -> Prefix:
    address, _, length = text.partition("/")
    return Prefix(_address(address), int(length))


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _range(values: list[int]) -> tuple[int, int]:
    first, last = values
    return first, last
