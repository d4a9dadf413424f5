"""The native dataplane at work: with offloads and without, beside others, while it changes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from pylb.node.native_pump import NO_LIMITS, Limits
from pylb.node.overlay_sockets import Batching
from pylb.node.tun import PLAIN, Offloads
from tests.netns.node import bulk
from tests.netns.node.world import CLIENT_IP, Daemon, Namespace, World, until
from tests.unit.node.cluster import Body, endpoints, node, pod, ref, service

pytestmark = pytest.mark.root

FAR_SERVICE, NEAR_SERVICE = "10.96.0.10", "10.96.0.11"
ONE, TWO, FAR = "10.244.1.2", "10.244.1.3", "10.244.2.3"
PORT, TARGET = 80, 8080

LEVELS = {
    "everything": NO_LIMITS,
    "no USO": Limits(Offloads(header=True, tso=True)),
    "no TSO": Limits(Offloads(header=True)),
    "no virtio header": Limits(PLAIN),
    "no UDP_SEGMENT": Limits(overlay=Batching(segment=False)),
    "no UDP_GRO": Limits(overlay=Batching(gro=False)),
    "neither": Limits(overlay=Batching(False, False)),
    "nothing": Limits(PLAIN, Batching(False, False)),
}


def balanced(name: str, address: str, backend: str) -> list[Body]:
    """A Service of one endpoint, for TCP and UDP."""
    of = service(name, address)
    of["spec"]["ports"] = [
        {"name": "tcp", "port": PORT, "protocol": "TCP"},
        {"name": "udp", "port": PORT, "protocol": "UDP"},
    ]
    slices = endpoints(name, backend)
    slices["ports"] = [
        {"name": "tcp", "port": TARGET, "protocol": "TCP"},
        {"name": "udp", "port": TARGET, "protocol": "UDP"},
    ]
    return [of, slices]


def objects() -> list[Body]:
    second = node(2)
    second["status"]["addresses"][0]["address"] = CLIENT_IP
    lab = {
        "apiVersion": "pylb.io/v1alpha1",
        "kind": "Lab",
        "metadata": {"name": "lab"},
        "spec": {"underlay": {"client": "192.168.7.252"}},
    }
    pods = [pod("one", "node1", ONE), pod("two", "node1", TWO), pod("far", "node2", FAR)]
    services = [*balanced("far", FAR_SERVICE, FAR), *balanced("near", NEAR_SERVICE, TWO)]
    return [node(1), second, lab, *pods, *services]


def write(here: World) -> None:
    (here.folder / "cluster.yaml").write_text(yaml.safe_dump_all(objects()))


def logged(daemon: Daemon, event: str) -> dict[str, Any]:
    """The last line of the daemon's log with this ``event``."""
    return [line for line in daemon.logged() if line["event"] == event][-1]


def counters(daemon: Daemon) -> dict[str, int]:
    return dict(daemon.api.get("/counters")["counters"])


def refusals(daemon: Daemon) -> dict[str, int]:
    """What the system did not take, and what the dataplane dropped as wrong."""
    moved = ("pump_read_tun", "pump_write_tun", "pump_receive_overlay", "pump_send_overlay")
    wrong = ("drop_bad_l4_checksum", "drop_bad_ip_checksum", "drop_bad_offload", "drop_truncated")
    return {
        name: count
        for name, count in counters(daemon).items()
        if count and ((name.startswith("pump_") and name not in moved) or name in wrong)
    }


def far_pod(here: World, mtu: int = 1450) -> Namespace:
    far = here.pod(3, node=2, mtu=mtu)
    bulk.serve(here, far, TARGET)
    return far


@pytest.mark.parametrize("overlay", ["vxlan", "udp"])
@pytest.mark.parametrize("level", list(LEVELS))
def test_every_byte_arrives_with_each_offload_missing(
    here: World, level: str, overlay: str
) -> None:
    write(here)
    limits = LEVELS[level]
    daemons = [here.limited_daemon(limits, overlay, number) for number in (1, 2)]
    mtu = daemons[0].api.get("/plan")["overlay"]["mtu"]
    one = here.pod(2, mtu=mtu)
    far_pod(here, mtu)
    bulk.stream(here, one, FAR_SERVICE, PORT)
    bulk.datagrams(here, one, FAR_SERVICE, PORT, mtu - 28)
    for daemon in daemons:
        tun, sockets = logged(daemon, "tun"), logged(daemon, "overlay")
        # What the kernel has, a test cannot know; what is off must be off.
        for name, wanted in limits.tun._asdict().items():
            assert wanted or not tun[name], name
        assert limits.overlay.segment or not sockets["udp_segment"]
        assert limits.overlay.gro or not sockets["udp_gro"]
        assert not refusals(daemon)


def test_every_byte_arrives_over_an_uplink_that_makes_no_checksums(here: World) -> None:
    """Kernels before 6.11 refuse UDP_SEGMENT there: datagrams are sent singly then."""
    write(here)
    daemons = [here.daemon(node=number) for number in (1, 2)]
    one = here.pod(2)
    far_pod(here)
    for space in (here.node, here.client):
        bulk.leave_nothing_to_the_card(space, "eth0")
    bulk.stream(here, one, FAR_SERVICE, PORT)
    bulk.datagrams(here, one, FAR_SERVICE, PORT)
    assert not [refused for daemon in daemons if (refused := refusals(daemon))]


def test_every_byte_arrives_over_an_uplink_whose_mtu_is_too_small(here: World) -> None:
    """UDP_SEGMENT is refused for what must be fragmented: datagrams are sent singly.

    Of UDP their order is not kept: fragments to the node's address take the way
    through the TUN (a NodePort's may be among them), whole datagrams do not.
    """
    write(here)
    daemons = [here.daemon(node=number) for number in (1, 2)]
    one = here.pod(2)
    far_pod(here)
    for space in (here.node, here.client):
        space.sh("ip link set eth0 mtu 1300")
    bulk.stream(here, one, FAR_SERVICE, PORT, 8)
    assert not [refused for daemon in daemons if (refused := refusals(daemon))]


def test_every_byte_arrives_in_the_smallest_segments(here: World) -> None:
    """Super-packets of some 1 800 segments each: their headers fill what there is for them.

    The daemon is halted from time to time, so that several wait for it.
    """
    write(here)
    daemons = [here.daemon(node=number) for number in (1, 2)]
    one, far = here.pod(2), far_pod(here)
    far.sh("ip route replace default via 10.244.2.1 advmss 48")
    stream = bulk.start(here, one, FAR_SERVICE, PORT, 16)
    while stream.poll() is None:
        for number in (signal.SIGSTOP, signal.SIGCONT):
            daemons[0].process.send_signal(number)
            time.sleep(0.05)
    bulk.finished(stream)
    assert not [refused for daemon in daemons if (refused := refusals(daemon))]


def test_every_byte_arrives_on_the_same_node(here: World) -> None:
    """From TUN to TUN, where super-packets are passed on as they are."""
    write(here)
    daemon = here.limited_daemon(NO_LIMITS, "vxlan")
    one, two = here.pod(2), here.pod(3)
    bulk.serve(here, two, TARGET)
    bulk.stream(here, one, NEAR_SERVICE, PORT)
    bulk.datagrams(here, one, NEAR_SERVICE, PORT)
    bulk.stream(here, two, NEAR_SERVICE, PORT, 4)
    assert not refusals(daemon)


@pytest.mark.parametrize("overlay", ["vxlan", "udp"])
def test_native_and_python_are_peers(here: World, overlay: str) -> None:
    write(here)
    daemons = [
        here.daemon("--overlay", overlay, node=number, dataplane=name)
        for number, name in ((1, "native"), (2, "python"))
    ]
    mtu = daemons[0].api.get("/plan")["overlay"]["mtu"]
    one = here.pod(2, mtu=mtu)
    far_pod(here, mtu)
    bulk.stream(here, one, FAR_SERVICE, PORT, 2)
    bulk.datagrams(here, one, FAR_SERVICE, PORT, mtu - 28)


def test_a_kernel_with_a_vxlan_device_is_a_peer(here: World) -> None:
    write(here)
    native = here.daemon()
    here.daemon(node=2, dataplane="kernel")
    bulk.leave_nothing_to_the_card(here.client, "eth0")
    one, two = here.pod(2), here.pod(3)
    far = far_pod(here)
    bulk.serve(here, two, TARGET)
    for client, address in ((one, FAR_SERVICE), (one, FAR), (far, NEAR_SERVICE), (far, TWO)):
        port = PORT if address.startswith("10.96.") else TARGET
        bulk.stream(here, client, address, port, 8)
        bulk.datagrams(here, client, address, port)
    moved = counters(native)
    assert moved["pump_send_overlay"] > 0
    assert moved["pump_receive_overlay"] > 0
    assert not refusals(native)


def test_the_tun_passes_from_native_to_python_and_back(here: World) -> None:
    """The device stays; what the one had turned on the other must not find."""
    write(here)
    header = 0x4000
    two: Namespace | None = None
    for name in ("native", "python", "native"):
        daemon = here.daemon(dataplane=name)
        if two is None:
            one, two = here.pod(2), here.pod(3)
            bulk.serve(here, two, TARGET)
        flags = int(here.node.sh("cat /sys/class/net/pylb0/tun_flags").stdout, 16)
        native = name == "native"
        assert bool(flags & header) is native
        assert bulk.offloads(here.node, "pylb0") == (native, native)
        bulk.stream(here, one, NEAR_SERVICE, PORT, 16 if native else 2)
        bulk.datagrams(here, one, NEAR_SERVICE, PORT)
        assert daemon.end() == 0


def under_load(here: World, daemon: Daemon, client: Namespace) -> bulk.Popen:
    """A stream that has no end in sight, once it flows."""
    stream = bulk.start(here, client, NEAR_SERVICE, PORT, 1 << 14)
    until(lambda: counters(daemon)["pump_read_tun"] > 2000, "packets")
    return stream


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_the_middle_of_a_transfer(here: World, number: signal.Signals) -> None:
    write(here)
    daemon = here.daemon()
    one, two = here.pod(2), here.pod(3)
    bulk.serve(here, two, TARGET)
    stream = under_load(here, daemon, one)
    began = time.monotonic()
    assert daemon.end(number) == 0
    assert time.monotonic() - began < 3
    assert [line["event"] for line in daemon.logged()][-1] == "ending"
    stream.kill()
    again = here.daemon()
    bulk.stream(here, one, NEAR_SERVICE, PORT, 1)
    assert not refusals(again)


def test_the_policy_changes_while_packets_flow(here: World) -> None:
    """Services come and go, and endpoints of others, beside streams that must not notice."""
    daemon = here.daemon("--controlled", files=False)
    daemon.api.post("/policy", {"number": 1, "objects": objects()})
    one, two = here.pod(2), here.pod(3)
    bulk.serve(here, two, TARGET)
    passing = balanced("passing", "10.96.0.20", TWO)
    changes: list[dict[str, Any]] = [
        {"apply": passing},
        {"apply": balanced("far", FAR_SERVICE, ONE)},
        {"apply": balanced("far", FAR_SERVICE, TWO)},
        {"delete": [ref(each) for each in passing]},
    ]
    streams = [bulk.start(here, one, NEAR_SERVICE, PORT, 32)]
    for number in range(1, 61):
        body = changes[(number - 1) % len(changes)] | {"number": number + 1, "base": number}
        daemon.api.post("/policy", body)
        if streams[-1].poll() is not None:
            streams.append(bulk.start(here, one, NEAR_SERVICE, PORT, 32))
    for stream in streams:
        bulk.finished(stream)
    bulk.stream(here, one, FAR_SERVICE, PORT, 1)
    assert not refusals(daemon)


def test_what_no_socket_takes_is_counted_and_ends_nothing(here: World) -> None:
    """The uplink is down: sends are refused, and go on when it is back."""
    write(here)
    daemon = here.daemon()
    one = here.pod(2)
    here.daemon(node=2)
    far_pod(here)
    bulk.stream(here, one, FAR_SERVICE, PORT, 1)
    here.node.sh("ip link set eth0 down")
    assert here.no_answer(one, FAR_SERVICE, PORT)
    refused = [name for name in refusals(daemon) if name.startswith("pump_send_overlay_")]
    assert refused
    here.node.sh(f"ip link set eth0 up; ip route replace default via {CLIENT_IP}")
    bulk.stream(here, one, FAR_SERVICE, PORT, 1)


def test_a_device_that_is_gone_is_no_reason_to_spin_or_to_end(here: World) -> None:
    write(here)
    daemon = here.daemon()
    one, two = here.pod(2), here.pod(3)
    bulk.serve(here, two, TARGET)
    bulk.stream(here, one, NEAR_SERVICE, PORT, 1)
    here.node.sh("ip link del pylb0")
    until(lambda: refusals(daemon), "the device to be missed")
    before = cpu_seconds(daemon)
    time.sleep(1)
    assert cpu_seconds(daemon) - before < 0.2
    assert daemon.end() == 0


def cpu_seconds(daemon: Daemon) -> float:
    """CPU time of the process so far."""
    stat = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
