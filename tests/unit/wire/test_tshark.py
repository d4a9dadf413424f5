"""tshark decodes both encapsulations down to the inner segment, and finds no fault."""

from __future__ import annotations

import subprocess
from pathlib import Path

import dpkt
import pytest

from pylb.wire import flannel_udp, icmp, sctp, tcp, udp, vxlan

A, B = 0x0AF40102, 0x0AF40203
NODE, PEER = 0xC0A8320B, 0xC0A8320C
MACS = bytes.fromhex("0250c0a8320b"), bytes.fromhex("0250c0a8320c")
SYN = tcp.build(A, B, 40000, 80, 1, 0, tcp.SYN, 64240, bytes.fromhex("020405b4"))
INNER = {
    "tcp": SYN,
    "udp": udp.build(A, B, 40000, 5000, b"question"),
    "icmp": icmp.echo(A, B, 7, 1, b"ping"),
    "icmp-error": icmp.error(icmp.UNREACHABLE, 3, 0, udp.build(B, A, 5000, 53, b"?"), A, B),
    "sctp": sctp.build(A, B, 40000, 36412, 0, sctp.init(7)),
    "reset": tcp.reset_for(tcp.build(B, A, 81, 40001, 1, 0, tcp.SYN, 64240)) or b"",
}
PREFERENCES = [
    word for protocol in ("ip", "tcp", "udp") for word in ("-o", f"{protocol}.check_checksum:TRUE")
] + ["-o", "sctp.checksum:crc-32c"]
# Errors only: tshark warns of every RST.  That ICMP's checksum is wrong is but a warning.
ERROR = 0x800000
FAULTS = (
    f"_ws.malformed || _ws.expert.severity >= {ERROR} "
    "|| icmp.checksum.status == 0 || sctp.checksum.status == 0"
)


def tshark(capture: Path, *arguments: str) -> list[str]:
    command = ["tshark", "-n", "-r", str(capture), *PREFERENCES, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def write(capture: Path, packets: list[bytes]) -> None:
    with capture.open("wb") as file:
        writer = dpkt.pcap.Writer(file, linktype=dpkt.pcap.DLT_RAW)
        for packet in packets:
            writer.writepkt(packet, ts=0)


@pytest.mark.tools("tshark")
@pytest.mark.parametrize(
    ("encode", "port", "decoder"),
    [
        (lambda packet: vxlan.encode(packet, 1, *MACS), 8472, "vxlan"),
        (flannel_udp.encode, 8285, "ip"),
    ],
    ids=["vxlan", "flannel-udp"],
)
def test_encapsulated(tmp_path: Path, encode, port: int, decoder: str) -> None:
    capture = tmp_path / "capture.pcap"
    write(capture, [udp.build(NODE, PEER, 49152, port, encode(p)) for p in INNER.values()])
    decode_as = ["-d", f"udp.port=={port},{decoder}"]

    assert tshark(capture, *decode_as, "-Y", FAULTS) == []
    addresses = ["-T", "fields", "-e", "ip.src", "-e", "ip.dst", "-E", "occurrence=a"]
    outer, inner = ("192.168.50.11", "192.168.50.12"), ("10.244.1.2", "10.244.2.3")
    for line in tshark(capture, *decode_as, *addresses):
        sources, destinations = line.split("\t")
        assert (sources.split(",")[0], destinations.split(",")[0]) == outer
        assert (sources.split(",")[1], destinations.split(",")[1]) == inner


@pytest.mark.tools("tshark")
def test_tshark_would_have_found_a_fault(tmp_path: Path) -> None:
    capture = tmp_path / "capture.pcap"
    damaged = [packet[:-1] + bytes([packet[-1] ^ 1]) for packet in INNER.values()]
    write(capture, [*damaged, *INNER.values()])
    assert len(tshark(capture, "-Y", FAULTS)) == len(damaged)
