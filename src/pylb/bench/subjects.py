"""Who is measured: dataplanes of pylb, the kernel in three ways, and proxies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from shutil import which

from pylb.bench.cluster import PROXY_TARGETS, TARGETS, Target
from pylb.bench.errors import BenchError
from pylb.bench.proxies import PROXIES
from pylb.lab.images import search_path
from pylb.lab.lifetime import DATAPLANES

BASE = "kernel"
"""What everything is held against."""
BASES = (BASE, "kernel-notrack")
"""The baselines that have a column of ratios."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One of those that are compared.

    ``dataplane`` and ``overlay`` are the lab's; ``proxy`` names the program on
    node1 that takes the Services' place.  ``scaled`` subjects are also measured
    with many Services and many flows.
    """

    name: str
    title: str
    dataplane: str
    overlay: str = "vxlan"
    proxy: str = ""
    scaled: bool = False

    @property
    def kernel(self) -> bool:
        """Whether its flows are in the kernel's own table."""
        return self.dataplane.startswith("kernel")

    @property
    def compared(self) -> bool:
        """Whether its figures may be held against the baselines': the same overlay and MTU."""
        return self.overlay == "vxlan"

    def target(self, path: str) -> Target | None:
        """Where a path leads for it; None for a path that it has no part in."""
        return PROXY_TARGETS.get(path) if self.proxy else TARGETS[path]

    def lacks_udp(self) -> bool:
        """Whether datagrams do not pass through it."""
        return self.proxy == "haproxy"


SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject("python", "pylb, Python dataplane", "python", scaled=True),
        Subject("python-udp", "pylb, Python dataplane, flannel-UDP overlay", "python", "udp"),
        Subject("native", "pylb, native dataplane", "native", scaled=True),
        Subject("native-udp", "pylb, native dataplane, flannel-UDP overlay", "native", "udp"),
        Subject("kernel", "nftables, kernel conntrack, kernel VXLAN", "kernel", scaled=True),
        Subject(
            "kernel-notrack",
            "the same, outer VXLAN flow not tracked",
            "kernel-notrack",
        ),
        Subject(
            "kernel-iptables", "iptables in kube-proxy's chains", "kernel-iptables", scaled=True
        ),
        Subject("haproxy", "HAProxy, TCP mode, on node1", "kernel", proxy="haproxy"),
        Subject("nginx-stream", "nginx stream proxy on node1", "kernel", proxy="nginx-stream"),
    )
}


def choose(names: Sequence[str] | None) -> list[Subject]:
    """The subjects of these names, in the order of `SUBJECTS`; all for None.

    Raises `BenchError` for one that there is not.
    """
    if names is None:
        return list(SUBJECTS.values())
    for name in names:
        if name not in SUBJECTS:
            raise BenchError(f"subject {name!r}: expected some of {', '.join(SUBJECTS)}")
    return [subject for subject in SUBJECTS.values() if subject.name in names]


def unavailable(subject: Subject) -> str:
    """Why a subject cannot be had on this machine, as far as can be told beforehand."""
    if subject.dataplane not in DATAPLANES:
        return "not built yet"
    needs = {"kernel-iptables": "iptables-restore"}.get(subject.dataplane, "nft")
    if subject.kernel and which(needs, path=search_path()) is None:
        return f"{needs} is not installed"
    return PROXIES[subject.proxy].unavailable() if subject.proxy else ""
