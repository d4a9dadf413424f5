"""The load programs: they compile without a warning, are built once, and count rightly."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from pylb.bench import cluster, tools
from pylb.bench.errors import Failed, NotAvailable
from pylb.bench.measures import busy_seconds, halves, rate
from pylb.bench.proxies import PROXIES
from pylb.bench.scale import entry_bytes, resident_bytes

SOURCES = sorted(tools.SOURCES.glob("*.c"))
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tools.program.cache_clear()
    yield tools.program()
    tools.program.cache_clear()


@pytest.mark.parametrize("compiler", COMPILERS)
def test_they_compile_without_warnings(compiler: str) -> None:
    command = [compiler, *tools.FLAGS, *WARNINGS, "-fsyntax-only", *map(str, SOURCES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_they_are_built_into_the_cache_once(built: Path, tmp_path: Path) -> None:
    assert built.parent == tmp_path / "pylb"
    before = built.stat()
    tools.program.cache_clear()
    assert tools.program().stat() == before


def test_without_a_compiler_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    tools.program.cache_clear()
    monkeypatch.setattr(tools.shutil, "which", lambda name: None)
    with pytest.raises(NotAvailable, match="need a C compiler"):
        tools.program()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "usage: load MODE"),
        (["tcp-fly"], "usage: load MODE"),
        (["tcp-send", "--port", "0"], "--port: expected a number from 1 to 65535, got 0"),
        (["tcp-send", "--port", "x"], "--port: expected a number"),
        (["tcp-send", "--address", "pod"], "--address: expected an IPv4 address, got pod"),
        (["tcp-send", "--cpus", "0,x"], "--cpus: expected numbers with commas between"),
        (["tcp-send", "--colour", "1"], "unknown option --colour"),
    ],
)
def test_a_wrong_command_line_is_refused(built: Path, arguments: list[str], said: str) -> None:
    done = subprocess.run([built, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_rate_leaves_out_warm_up_and_what_comes_after_the_end() -> None:
    counts = [1000] * 4 + [5] * 16 + [1000] * 5
    assert rate(counts, 0.05, 1.0) == 100


def test_a_short_run_has_a_short_warm_up() -> None:
    assert rate([100, 100, 3, 3, 3, 3, 3, 100], 0.05, 0.35) == 60


@pytest.mark.parametrize("counts", [[], [1], [1, 1, 1, 1]])
def test_too_little_is_no_rate(counts: list[int]) -> None:
    with pytest.raises(Failed, match="too little"):
        rate(counts, 0.05, 1.0)


def test_busy_is_everything_but_idle_waiting_and_stolen() -> None:
    assert busy_seconds("cpu  100 200 300 9999 9999 10 20 9999 0 0\ncpu0 1") == 6.3


SLABS = """slabinfo - version: 2.1
# name <active_objs> <num_objs> <objsize>
nf_conntrack_expect 1 2 3 4
nf_conntrack 10 48 256 16 1 : tunables
"""


def test_the_kernels_entries_in_use_are_counted() -> None:
    assert entry_bytes(SLABS) == 2560
    with pytest.raises(NotAvailable, match="no line nf_conntrack"):
        entry_bytes("slabinfo - version: 2.1")


def test_resident_memory() -> None:
    assert resident_bytes("Name:\tpython\nVmRSS:\t    12 kB\n") == 12288
    with pytest.raises(NotAvailable, match="no line VmRSS"):
        resident_bytes("")


@pytest.mark.parametrize(
    ("cpus", "expected"), [([3], ("3", "3")), ([0, 1], ("0", "1")), ([0, 1, 4], ("0", "1,4"))]
)
def test_clients_and_servers_have_cpus_of_their_own(
    cpus: list[int], expected: tuple[str, str]
) -> None:
    assert halves(cpus) == expected


@pytest.mark.parametrize("name", sorted(PROXIES))
def test_a_proxy_listens_for_every_port_and_knows_its_pod(name: str, tmp_path: Path) -> None:
    text = PROXIES[name].config(tmp_path)
    for service, vip in cluster.PROXY_VIPS.items():
        for port in (cluster.BULK, cluster.STORM, cluster.ECHO, cluster.HASH):
            assert f"{vip}:{port}" in text
            assert f"{cluster.PODS[service][1]}:{port}" in text


class TestCluster:
    def test_the_manifest_is_a_policy(self) -> None:
        from pylb.policy.objects import from_bodies
        from pylb.policy.store import Store

        bodies = list(yaml.safe_load_all(cluster.manifest()))
        store = Store.empty(None).apply(from_bodies(bodies))
        assert not store.warnings
        store = store.apply(from_bodies([*cluster.many(0, 20), *cluster.flow_services(20)]))
        assert len(store.policy.services) == 43

    def test_every_path_leads_to_a_place_of_it(self) -> None:
        places = {*cluster.PODS, "client", "outside"}
        for target in (*cluster.TARGETS.values(), *cluster.PROXY_TARGETS.values()):
            assert {target.source, target.server} <= places
