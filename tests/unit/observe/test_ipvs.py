"""Frontends and flows in ipvsadm's layout, blanks included."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from pylb.observe import ipvs
from tests.unit.observe.listed import FLOWS, NODE, OTHER_POD, PLAN, POD, VIP, flow

SMALL = {
    **PLAN,
    "frontends": [
        f for f in PLAN["frontends"] if (f["address"], f["port"]) in ((VIP, 80), ("10.96.0.9", 53))
    ],
}


def test_listing() -> None:
    assert ipvs.listing(ipvs.virtual_servers(SMALL, ipvs.totals(FLOWS))) == (
        "IP Virtual Server version 1.2.1 (size=4096)\n"
        "Prot LocalAddress:Port Scheduler Flags\n"
        "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
        "TCP  10.96.0.10:80 rr\n"
        "  -> 10.244.1.2:8080              Masq    1      1          1         \n"
        "  -> 10.244.2.9:8080              Masq    1      1          0         \n"
        "UDP  10.96.0.9:53 rr\n"
        "  -> 10.244.2.9:53                Masq    1      0          1         "
    )


def test_stats() -> None:
    servers = ipvs.virtual_servers(SMALL, ipvs.totals(FLOWS))
    assert ipvs.counters(servers, ipvs.STATS, exact=False) == (
        "IP Virtual Server version 1.2.1 (size=4096)\n"
        "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n"
        "  -> RemoteAddress:Port\n"
        "TCP  10.96.0.10:80                       3       11        8     1060     8000\n"
        "  -> 10.244.1.2:8080                     2       10        8     1000     8000\n"
        "  -> 10.244.2.9:8080                     1        1        0       60        0\n"
        "UDP  10.96.0.9:53                        1        5        4      500     4000\n"
        "  -> 10.244.2.9:53                       1        5        4      500     4000"
    )


def test_rate() -> None:
    """What is new since the first look, and how much more the others have, a second."""
    old = FLOWS[:2]
    new = [
        replace(FLOWS[0], packets=(25, 14), bytes=(2500, 5000)),
        *FLOWS[1:3],
        # Another flow under a number that was free again.
        flow(1, (VIP, 80), (OTHER_POD, 8080), packets=(2, 2), octets=(200, 200)),
    ]
    new[3] = replace(new[3], original=new[3].original._replace(sport=9))
    servers = ipvs.virtual_servers(SMALL, ipvs.between(old, new), seconds=2)
    assert ipvs.counters(servers, ipvs.RATE, exact=False).splitlines()[1:5] == [
        "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS",
        "  -> RemoteAddress:Port",
        "TCP  10.96.0.10:80                       1       12        6     1130      600",
        "  -> 10.244.1.2:8080                     0       10        5     1000      500",
    ]


def test_connections() -> None:
    samples = ipvs.totals(FLOWS)
    assert ipvs.connections(ipvs.virtual_servers(SMALL, samples), samples) == (
        "IPVS connection entries\n"
        "pro expire state       source             virtual            destination\n"
        "TCP 7199:59 ESTABLISHED 10.244.1.7:40001   10.96.0.10:80      10.244.1.2:8080\n"
        "TCP 01:05  TIME_WAIT   10.244.1.7:40002   10.96.0.10:80      10.244.1.2:8080\n"
        "TCP 01:05  SYN_SENT    10.244.1.7:40003   10.96.0.10:80      10.244.2.9:8080\n"
        "UDP 7199:59 UDP         10.244.1.7:40004   10.96.0.9:53       10.244.2.9:53"
    )


def test_a_backend_that_takes_no_new_flows_is_listed_while_it_has_some() -> None:
    plan = copy.deepcopy(SMALL)
    plan["frontends"][0]["active"] = [1]
    for flows, expected in ((FLOWS, [(POD, 0), (OTHER_POD, 1)]), ([], [(OTHER_POD, 1)])):
        server = ipvs.virtual_servers(plan, ipvs.totals(flows))[0]
        told = server.to_json()["servers"]
        assert [(s["address"].split(":")[0], s["weight"]) for s in told] == expected


def test_persistence_and_the_order_of_servers() -> None:
    plan = copy.deepcopy(PLAN)
    plan["frontends"][2]["affinity"] = 10800
    lines = ipvs.listing(ipvs.virtual_servers(plan, [])).splitlines()
    assert "TCP  10.96.0.10:80 rr persistent 10800" in lines
    servers = [line.split()[:2] for line in lines[3:] if not line.startswith("  ->")]
    assert servers[:3] == [
        ["TCP", "10.96.0.10:80"],
        ["TCP", "10.96.0.11:90"],
        ["TCP", "127.0.0.1:30080"],
    ]
    assert servers[-3:] == [
        ["UDP", "10.96.0.9:53"],
        ["UDP", f"{NODE}:30053"],
        ["SCTP", f"{NODE}:30132"],
    ]


@pytest.mark.parametrize(
    ("number", "text", "exact"),
    [
        (0, "        0", "        0"),
        (99_999_999, " 99999999", " 99999999"),
        (123_456_789, "  123456K", " 123456789"),
        (12_345_678_901, "   12345M", " 12345678901"),
        (12_345_678_901_234, "   12345G", " 12345678901234"),
        (12_345_678_901_234_567, "   12345T", " 12345678901234567"),
    ],
)
def test_large_numbers(number: int, text: str, exact: str) -> None:
    found = ipvs.RealServer(0, 0, 1, counts=ipvs.Counts(number))
    server = ipvs.VirtualServer(6, 0, 0, "rr", servers=[found])
    for spelled, wanted in ((False, text), (True, exact)):
        line = ipvs.counters([server], ipvs.STATS, exact=spelled).splitlines()[3]
        assert line.removeprefix(f"{'TCP  0.0.0.0:0':<33}").startswith(wanted + "        0")
