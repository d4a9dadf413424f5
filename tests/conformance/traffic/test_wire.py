"""What the overlays put on the wire, as tshark reads it."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from pylb.policy.model import Overlay
from tests.conformance.traffic.conftest import Lab, wait_for

pytestmark = [pytest.mark.root, pytest.mark.tools("tshark", "tcpdump", "curl")]


def test_tshark_decodes_the_overlay_without_complaint(lab: Lab, tmp_path: Path) -> None:
    if lab.overlay is Overlay.HOST_GW:
        return  # there is no encapsulation to decode
    capture = tmp_path / "overlay.pcap"
    port = lab.overlay.port
    sniffer = lab.start(
        "node1", "tcpdump", "-U", "-i", "eth0", "-w", str(capture), f"udp port {port}"
    )
    try:
        assert sniffer.stdout is not None
        wait_for(lambda: "listening on" in sniffer.stdout.readline(), "tcpdump listens")
        lab.run("client-1", "curl", "-sS", "-m", "5", f"http://{lab.pod('web-2')}:8080/")
        wait_for(lambda: capture.stat().st_size > 1000, "packets are captured")
    finally:
        sniffer.send_signal(signal.SIGINT)
        sniffer.communicate(timeout=10)
    kind = "vxlan" if lab.overlay is Overlay.VXLAN else "ip"
    decoded = subprocess.run(
        [
            "tshark", "-r", str(capture), "-d", f"udp.port=={port},{kind}", "-T", "json",
            "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE",
        ],
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    packets = [p["_source"]["layers"] for p in json.loads(decoded.stdout)]
    assert len(packets) >= 8, "a handshake, a request, an answer and an end"
    for layers in packets:
        assert "tcp" in layers
        assert "_ws.malformed" not in layers
        if lab.dataplane != "kernel":
            # The kernel's inner checksums are left to a card that is not there.
            assert "Bad" not in json.dumps(layers), "a checksum or length that tshark dislikes"
        if lab.overlay is Overlay.VXLAN:
            assert layers["vxlan"]["vxlan.vni"] == "1"
    flows = {(layers["udp"]["udp.srcport"], layers["udp"]["udp.dstport"]) for layers in packets}
    assert all(str(port) in flow for flow in flows)
