"""Full tables: who is evicted, who stays, what is dropped and under which name."""

from __future__ import annotations

import gc

from pylb.dataplane.base import DropReason, EventKind
from pylb.dataplane.python.conntrack import Flow
from pylb.wire import tcp, udp
from tests.sim.cluster import Cluster
from tests.sim.hosts import echo, shout
from tests.sim.packets import SYN
from tests.sim.tcp import Connection
from tests.sim.world import INTERNET, VIP, A, B, policy, web


def cluster_of(max_flows: int) -> Cluster:
    cluster = Cluster(policy(web("b")), 1, max_flows)
    for host in cluster.hosts():
        host.listen(8080, echo)
        host.listen_udp(53, shout)
    return cluster


def connected(cluster: Cluster, count: int) -> list[Connection]:
    made = [cluster.pods["a"].connect(VIP, 80) for _ in range(count)]
    for connection in made:
        connection.write(b"hello")
    cluster.settle()
    assert all(bytes(c.received) == b"hello" for c in made)
    return made


def test_a_flood_evicts_itself_and_not_the_connections_that_work() -> None:
    cluster = cluster_of(20)
    node = cluster.nodes["node1"]
    kept = connected(cluster, 10)
    cluster.pods["b"].silent = True
    for port in range(1000):
        cluster.pods["a"].send(tcp.build(A, B, 1024 + port, 9, 1, 0, SYN, 65535))
        cluster.run(1000)
    cluster.settle()
    assert len(node.flows()) == 20
    assert node.dataplane.counters()["early_drop"] == 990
    assert not node.dropped
    cluster.pods["b"].silent = False
    for connection in kept:
        connection.write(b" again")
    cluster.settle()
    assert all(bytes(c.received) == b"hello again" for c in kept)


def test_the_victim_is_the_least_recently_used() -> None:
    cluster = cluster_of(3)
    cluster.pods["b"].silent = True
    pod, node = cluster.pods["a"], cluster.nodes["node1"]
    for port in (1, 2, 3, 1, 4, 5):
        pod.send(udp.build(A, B, 40000 + port, 9, b"x"))
        cluster.settle()
    assert [f.original.sport for f in node.flows()] == [40001, 40004, 40005]
    gone = [e.flow.original.sport for e in node.events if e.kind is EventKind.DESTROY]
    assert gone == [40002, 40003]


def test_a_table_full_of_connections_that_work_takes_no_more() -> None:
    cluster = cluster_of(5)
    node = cluster.nodes["node1"]
    kept = connected(cluster, 5)
    late = cluster.pods["a"].connect(VIP, 80)
    cluster.run(100_000_000)
    assert node.reasons() == [DropReason.TABLE_FULL]
    for connection in kept[:1]:
        connection.abort()
    # The aborted connection's flow dies 10 s later, then the late one gets through.
    cluster.settle()
    assert late.state.name == "OPEN"
    assert late.retransmissions > 1
    assert all(not c.reset for c in kept[1:])


def test_dead_flows_make_room_before_anyone_is_evicted() -> None:
    cluster = cluster_of(4)
    cluster.outside["internet"].silent = True
    node = cluster.nodes["node1"]
    for port in range(4):
        cluster.pods["a"].send_udp(INTERNET, 9, b"x", 40000 + port)
    cluster.settle()
    cluster.jump(31)
    for port in range(4):
        cluster.pods["a"].send_udp(INTERNET, 9, b"x", 41000 + port)
    cluster.settle()
    assert node.dataplane.counters()["early_drop"] == 0
    assert len(node.flows()) == 4


def test_connections_that_are_over_leave_no_memory_behind() -> None:
    """One that lived longer than its first timeouts was queued for five days."""
    cluster = cluster_of(1000)
    for _ in range(20):
        made = connected(cluster, 10)
        cluster.jump(130)
        for connection in made:
            connection.close()
        cluster.settle()
        cluster.jump(130)
    assert not cluster.nodes["node1"].flows()
    gc.collect()
    assert sum(isinstance(each, Flow) for each in gc.get_objects()) < 50
    assert cluster.nodes["node1"].dataplane.next_deadline() is None


def test_masquerade_runs_out_of_ports_under_a_name_and_recovers() -> None:
    cluster = cluster_of(10_000)
    internet, node, pod = cluster.outside["internet"], cluster.nodes["node1"], cluster.pods["a"]
    internet.silent = True
    for port in range(4535):
        pod.send_udp(INTERNET, 53, b"x", 1024 + port)
    cluster.settle()
    ports = {packet.sport for packet in internet.inbox}
    assert ports == set(range(61000, 65535))
    assert not node.dropped
    pod.send_udp(INTERNET, 53, b"late", 30000)
    cluster.settle()
    assert node.reasons() == [DropReason.SNAT_EXHAUSTED]
    pod.send_udp(INTERNET, 54, b"elsewhere", 30000)
    cluster.settle()
    assert internet.inbox[-1].data == b"elsewhere"
    cluster.jump(31)
    pod.send_udp(INTERNET, 53, b"again", 30000)
    cluster.settle()
    assert internet.inbox[-1].data == b"again"
