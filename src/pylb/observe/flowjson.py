"""Flows, events and filters as JSON and as query strings.

This is what the control API speaks: addresses are dotted quads, ports and
protocols numbers, names camelCase.  A tuple shows what its protocol has: ICMP
``type``, ``code`` and ``id``, GRE ``srckey`` and ``dstkey``, otherwise ``sport``
and ``dport``.

Reading is strict: what is not understood raises ValueError with one sentence
that names the field.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import Any

from pylb.dataplane.base import Event, EventKind, FlowFilter, FlowTuple, FlowView
from pylb.observe.protocols import GRE, ICMP, name_of
from pylb.plan.tables import FrontendKey, Prefix


def flow_to_json(flow: FlowView) -> dict[str, Any]:
    """A flow as JSON-able values; ``dnat`` and ``snat`` are told for convenience."""
    frontend = flow.frontend
    return {
        "id": flow.id,
        "protocol": flow.original.protocol,
        "protoname": name_of(flow.original.protocol),
        "original": _tuple_to_json(flow.original),
        "reply": _tuple_to_json(flow.reply),
        "timeout": flow.timeout,
        "state": flow.state,
        "seenReply": flow.seen_reply,
        "assured": flow.assured,
        "packets": list(flow.packets),
        "bytes": list(flow.bytes),
        "dnat": flow.dnat,
        "snat": flow.snat,
        "service": flow.service,
        "frontend": None
        if frontend is None
        else {
            "address": str(IPv4Address(frontend.address)),
            "port": frontend.port,
            "protocol": frontend.protocol,
        },
        "generation": flow.generation,
        "mark": flow.mark,
    }


def flow_from_json(data: Mapping[str, Any]) -> FlowView:
    """The flow that `flow_to_json` wrote; raises ValueError naming what is wrong."""
    try:
        protocol = int(data["protocol"])
        frontend = data["frontend"]
        return FlowView(
            id=int(data["id"]),
            original=_tuple_from_json(data["original"], protocol),
            reply=_tuple_from_json(data["reply"], protocol),
            timeout=int(data["timeout"]),
            state=str(data["state"]),
            seen_reply=bool(data["seenReply"]),
            assured=bool(data["assured"]),
            packets=_pair(data["packets"]),
            bytes=_pair(data["bytes"]),
            service=str(data["service"]),
            frontend=None
            if frontend is None
            else FrontendKey(
                _address(frontend["address"]), int(frontend["port"]), int(frontend["protocol"])
            ),
            generation=int(data["generation"]),
            mark=int(data["mark"]),
        )
    except KeyError as error:
        raise ValueError(f"a flow without {error.args[0]!r}") from None
    except TypeError as error:
        raise ValueError(f"a flow of the wrong shape: {error}") from None


def event_to_json(event: Event, *, epoch: int = 0) -> dict[str, Any]:
    """An event as JSON-able values.

    ``at`` in JSON is nanoseconds since the Unix epoch: ``epoch`` is what to add to
    the dataplane's clock to get there (`time.time_ns() - time.monotonic_ns()` for
    a daemon).
    """
    return {
        "kind": event.kind.value,
        "at": event.at + epoch,
        "flow": flow_to_json(event.flow),
    }


def event_from_json(data: Mapping[str, Any]) -> Event:
    """The event that `event_to_json` wrote, its ``at`` since the Unix epoch."""
    try:
        kind = EventKind(data["kind"])
        return Event(kind, flow_from_json(data["flow"]), int(data["at"]))
    except KeyError as error:
        raise ValueError(f"an event without {error.args[0]!r}") from None


def events_from_text(text: str) -> frozenset[EventKind]:
    """Kinds of event from ``NEW,UPDATE,DESTROY``; conntrack's ``UPDATES`` and ``ALL`` too."""
    kinds: set[EventKind] = set()
    for word in text.split(","):
        match word.strip().upper():
            case "ALL":
                kinds.update(EventKind)
            case "UPDATES":
                kinds.add(EventKind.UPDATE)
            case "NEW" | "UPDATE" | "DESTROY" as kind:
                kinds.add(EventKind(kind))
            case _:
                raise ValueError(f"{word!r} is no event: expected NEW, UPDATES, DESTROY or ALL")
    return frozenset(kinds)


def filter_to_query(where: FlowFilter) -> dict[str, str]:
    """A filter as query names and values; `filter_from_query` reads them back."""
    query = {}
    for field in fields(where):
        value = getattr(where, field.name)
        if value is None:
            continue
        if isinstance(value, bool):
            value = "true" if value else "false"
        query[_camel(field.name)] = str(value)
    return query


def filter_from_query(query: Mapping[str, str], also: Collection[str] = ()) -> FlowFilter:
    """A filter from query names and values.

    Names in ``also`` belong to somebody else and are passed over; any other
    unknown name, and any value that cannot be, raises ValueError.
    """
    values: dict[str, Any] = {}
    for name, text in query.items():
        if name in also:
            continue
        if name not in _READERS:
            known = ", ".join(sorted(_READERS))
            raise ValueError(f"no filter is called {name!r}: expected one of {known}")
        field, read = _READERS[name]
        try:
            values[field] = read(text)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return FlowFilter(**values)


def prefix_from_text(text: str) -> Prefix:
    """A prefix from ``10.0.0.1``, ``10.0.0.0/8`` or ``10.0.0.0/255.0.0.0``.

    Bits beyond the mask are dropped, as conntrack(8) does.
    """
    try:
        network = IPv4Network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 address or prefix") from None
    return Prefix(int(network.network_address), network.prefixlen)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _tuple_to_json(t: FlowTuple) -> dict[str, Any]:
    ends: dict[str, Any] = {"src": str(IPv4Address(t.src)), "dst": str(IPv4Address(t.dst))}
    if t.protocol == ICMP:
        return {**ends, "type": t.dport >> 8, "code": t.dport & 0xFF, "id": t.sport}
    if t.protocol == GRE:
        return {**ends, "srckey": t.sport, "dstkey": t.dport}
    return {**ends, "sport": t.sport, "dport": t.dport}


def _tuple_from_json(data: Mapping[str, Any], protocol: int) -> FlowTuple:
    if protocol == ICMP:
        ports = int(data["id"]), int(data["type"]) << 8 | int(data["code"])
    elif protocol == GRE:
        ports = int(data["srckey"]), int(data["dstkey"])
    else:
        ports = int(data["sport"]), int(data["dport"])
    return FlowTuple(_address(data["src"]), _address(data["dst"]), protocol, *ports)


def _address(text: str) -> int:
    try:
        return int(IPv4Address(text))
    except AddressValueError:
        raise ValueError(f"{text!r} is not an IPv4 address") from None


def _pair(values: Any) -> tuple[int, int]:
    original, reply = values
    return int(original), int(reply)


def _number(most: int) -> Any:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text) > most:
            raise ValueError(f"{text!r} is not a number from 0 to {most}")
        return int(text)

    return read


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text == "true"


def _readers() -> dict[str, tuple[str, Any]]:
    """How each field of a filter is read, by its name in a query."""
    read: dict[str, Any] = {
        "protocol": _number(255),
        "id": _number((1 << 64) - 1),
        "mark": _number((1 << 32) - 1),
        "state": str,
    }
    for name in ("src", "dst", "reply_src", "reply_dst"):
        read[name] = prefix_from_text
    for name in ("sport", "dport", "reply_sport", "reply_dport"):
        read[name] = _number(65535)
    for name in ("assured", "seen_reply", "snat", "dnat"):
        read[name] = _truth
    return {_camel(field.name): (field.name, read[field.name]) for field in fields(FlowFilter)}


_READERS = _readers()
