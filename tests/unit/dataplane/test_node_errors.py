"""ICMP errors that a node itself sends to a pod of another node: a peer must believe them.

A peer takes packets only from the node's own pods' subnet, so the node speaks as
the tunnel's end there, as it does in every flow of its own (DESIGN decision 3).
"""

from __future__ import annotations

import pytest

from pylb.dataplane.base import DropReason, OverlayPort
from pylb.wire import icmp, ipv4
from tests.unit.dataplane.damage import mend
from tests.unit.dataplane.net import (
    BRIDGE,
    NODE,
    PEER,
    POD_A,
    POD_REMOTE,
    TUNNEL,
    datagram,
    dataplane,
    from_peer,
    inner,
    ping,
    tun,
)


@pytest.mark.parametrize("source", [NODE, BRIDGE], ids=["node", "bridge"])
@pytest.mark.parametrize("tracked", [True, False])
def test_time_exceeded_of_the_kernel_reaches_a_remote_pod(source: int, tracked: bool) -> None:
    """What traceroute between pods of two nodes shows for the second node."""
    dp = dataplane()
    asked = datagram(POD_REMOTE, 5000, POD_A, 33434)
    if tracked:
        dp.process([from_peer(asked)], 0)
    out = dp.process([tun(icmp.error(11, 0, 0, asked, source, POD_REMOTE))], 0)
    assert not out.dropped
    (sent,) = out.sent
    assert isinstance(sent.port, OverlayPort)
    assert sent.port.address == PEER
    error = inner(sent)
    assert (error.src, error.dst) == (TUNNEL, POD_REMOTE)
    assert error.checksum_ok()
    assert bytes(error.data[28 : 28 + len(asked)]) == asked


def test_an_error_that_is_too_big_is_dropped_without_another() -> None:
    """RFC 1122 section 3.2.2: no ICMP error is ever sent about one."""
    dp = dataplane()
    dp.process([from_peer(datagram(POD_REMOTE, 5000, POD_A, 9))], 0)
    quoted = datagram(POD_REMOTE, 5000, POD_A, 9, bytes(1500))
    raw = bytearray(ipv4.build(POD_A, POD_REMOTE, 1, icmp.message(3, 3, 0, quoted)))
    raw[6:8] = b"\x40\0"
    out = dp.process([tun(mend(bytes(raw)))], 0)
    assert [d.reason for d in out.dropped] == [DropReason.TOO_BIG]
    assert not out.sent


@pytest.mark.parametrize(
    "asked", [datagram(POD_REMOTE, 5000, TUNNEL, 9), ping(POD_REMOTE, TUNNEL)], ids=["udp", "ping"]
)
def test_a_refusal_to_a_remote_pod_comes_from_the_tunnels_end(asked: bytes) -> None:
    out = dataplane().process([from_peer(asked)], 0)
    assert [d.reason for d in out.dropped] == [DropReason.NO_SUCH_FRONTEND]
    (sent,) = out.sent
    error = inner(sent)
    assert (error.src, error.dst) == (TUNNEL, POD_REMOTE)
