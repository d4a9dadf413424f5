"""The kernel's counters out of its text."""

from __future__ import annotations

from pylb.dataplane.kernel import statistics

STAT = """entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart
0000001a  00000001 00000002 00000000 00000003 00000000 00000000 00000001 00000000 00000004 00000005 00000006 00000007  00000000 00000000 00000000 00000008
0000001a  00000001 00000000 00000000 000000ff 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000  00000000 00000000 00000000 00000000
"""  # noqa: E501

DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
pylb.1:    1270      12    0    0    0     0          0         0     2000      16    0    0    0     0       0          0
"""  # noqa: E501


def test_counters_of_all_cpus_are_added_and_flows_are_not() -> None:
    found = statistics.conntrack(STAT)
    assert found["flows"] == 26
    assert found["invalid"] == 3 + 255
    assert (found["clash_resolve"], found["error"], found["search_restart"]) == (2, 7, 8)
    assert found["chaintoolong"] == 0


def test_without_connection_tracking_all_are_zero() -> None:
    assert set(statistics.conntrack("").values()) == {0}


def test_a_devices_packets() -> None:
    assert statistics.device(DEV, "pylb.1") == (12, 16)
    assert statistics.device(DEV, "pylb") == (0, 0)
