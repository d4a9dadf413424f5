"""Up and down: whatever happens in between, the machine is afterwards as it was before."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from pylb.control.paths import LabPaths
from pylb.lab import lifetime, netns, removal
from pylb.lab.errors import LabError
from pylb.lab.owned import Owned, Process
from pylb.policy.errors import ManifestError
from tests.netns.lab.conftest import CLUSTER, LAB, Lab, Machine, namespaces, start, until

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("unchanged")]

FOLDER = LabPaths(LAB).root


def _up(text: str, folder: Path, **options: object) -> list[str]:
    path = folder / "cluster.yaml"
    path.write_text(text)
    told: list[str] = []
    given = {"dataplane": "python", "overlay": None, **options}
    ready_within = given.pop("ready_within", 30.0)
    lifetime.up(
        [str(path)],
        LAB,
        str(given["dataplane"]),
        given["overlay"],  # type: ignore[arg-type]
        told.append,
        ready_within=ready_within,  # type: ignore[arg-type]
    )
    return told


def test_up_tells_its_steps_and_down_what_it_removed(tmp_path: Path) -> None:
    told = _up(CLUSTER, tmp_path)
    assert "4 pods" in told[0]
    assert told[-1] == "all 4 pods are ready"
    removed = lifetime.down(LAB)
    for place in ("node1", "node2", "web-1", "shop.cart", "client", "router", "internet"):
        assert f"namespace {LAB}-{place}" in removed
    with pytest.raises(LabError, match=f"no lab called '{LAB}' is up"):
        lifetime.down(LAB)


@pytest.mark.parametrize(
    ("text", "options", "error", "words"),
    [
        ("kind: [", {}, ManifestError, "not YAML"),
        (CLUSTER.replace("10.244.2.0", "10.244.1.0"), {}, ManifestError, "overlaps"),
        (CLUSTER.replace("nodeName: node1", "nodeName: node7"), {}, ManifestError, "node7"),
        (CLUSTER.replace("echoserver:1.4", "agnhost:2"), {}, LabError, "agnhost:2"),
        (CLUSTER.replace("[sh, -c", "[no-such-shell, -c"), {}, LabError, "not installed"),
        (CLUSTER.replace("name: idle", "name: router"), {}, (ManifestError, LabError), "router"),
        (CLUSTER, {"dataplane": "magic"}, LabError, "dataplane 'magic'"),
        (CLUSTER, {"overlay": "geneve"}, LabError, "overlay 'geneve': expected one of vxlan"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(
    tmp_path: Path,
    text: str,
    options: dict[str, object],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error) as caught:
        _up(text, tmp_path, **options)
    assert words in str(caught.value)
    assert not FOLDER.exists()


def test_no_root_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabError, match="need root"):
        _up(CLUSTER, tmp_path)
    with pytest.raises(LabError, match="need root"):
        lifetime.down(LAB)


def test_no_tun_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifetime, "_TUN", tmp_path / "tun")
    with pytest.raises(LabError, match="TUN devices"):
        _up(CLUSTER, tmp_path)
    # There, but another device, as when a container's set-up has gone wrong.
    monkeypatch.setattr(lifetime, "_TUN", Path("/dev/null"))
    with pytest.raises(LabError, match=r"/dev/null: .*: the daemons need TUN devices"):
        _up(CLUSTER, tmp_path)
    assert not FOLDER.exists()


def test_a_namespace_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    name = f"{LAB}-web-1"
    made: dict[str, int] = {}
    mounted = netns.prepare_folder()
    netns.create([name], made.update)
    try:
        with pytest.raises(LabError, match=f"{name} exists already"):
            _up(CLUSTER, tmp_path)
        assert netns.inode(name) == made[name]
    finally:
        netns.remove(name, made[name])
        if mounted:
            netns.restore_folder()


def test_a_lab_that_is_up_is_not_brought_up_again(manifest: Path) -> None:
    lab = start(manifest)
    try:
        before = lab.api.get("/status")["pid"]
        with pytest.raises(LabError, match=f"lab '{LAB}' is up already: take it down first"):
            start(manifest)
        assert lab.api.get("/status")["pid"] == before
    finally:
        lifetime.down(LAB)


def test_a_pod_that_does_not_become_ready_fails_up_and_is_shown(tmp_path: Path) -> None:
    text = CLUSTER.replace("echo from one; exec sleep 1000", "echo no luck today; exit 3")
    with pytest.raises(LabError) as caught:
        _up(text, tmp_path, ready_within=0.5)
    # One pod, one line; how often it was started again meanwhile depends on the machine.
    assert re.fullmatch(
        r"shop/cart is not ready after 0\.5 s: container one ended with status 3"
        r"(, restarted \d+ times?)?; it last wrote: \[one\] no luck today",
        str(caught.value),
    )


def test_a_daemon_that_cannot_start_fails_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken" / "pylb" / "node"
    broken.mkdir(parents=True)
    # The controller is started with this PYTHONPATH, and its daemons with it in their turn.
    (tmp_path / "broken" / "sitecustomize.py").write_text(
        "import sys\nif 'daemon' in sys.orig_argv: sys.exit('broken on purpose')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    with pytest.raises(LabError) as caught:
        _up(CLUSTER, tmp_path)
    assert "the daemon of node" in str(caught.value)
    assert "broken on purpose" in str(caught.value)
    assert not FOLDER.exists()


def _processes(lab: Lab) -> list[Process]:
    """The controller, and then all that it has started."""
    owned = Owned.load(lab.paths.owned)
    assert owned.controller is not None
    return [owned.controller, *owned.processes.values()]


def _kill(processes: list[Process]) -> None:
    """kill -9 and wait for their end."""
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
    until(lambda: not any(process.alive for process in processes), "they are gone")


def test_down_after_everything_was_killed(manifest: Path) -> None:
    lab = start(manifest)
    _kill(_processes(lab))
    with pytest.raises(LabError, match="was left by a crash: take it down first"):
        start(manifest)
    assert f"folder {lab.paths.root}" in lifetime.down(LAB)


def test_down_after_only_the_controller_was_killed(manifest: Path) -> None:
    lab = start(manifest)
    _kill(_processes(lab)[:1])
    removed = lifetime.down(LAB)
    assert any("daemon of node1" in line for line in removed)
    assert any("Pod default/web-1" in line for line in removed)


def test_down_with_a_controller_that_hangs(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifetime, "_DOWN", 0.2)
    lab = start(manifest)
    os.kill(_processes(lab)[0].pid, signal.SIGSTOP)
    assert any("(controller)" in line for line in lifetime.down(LAB))


def test_down_with_a_damaged_record_asks_the_controller(manifest: Path) -> None:
    lab = start(manifest)
    lab.paths.owned.write_text("{")
    removed = lifetime.down(LAB)
    assert f"namespace {LAB}-node1" in removed
    assert f"folder {lab.paths.root}" in removed


def test_with_a_damaged_record_and_no_controller_the_way_out_is_said(manifest: Path) -> None:
    lab = start(manifest)
    _kill(_processes(lab))
    record = lab.paths.owned.read_text()
    lab.paths.owned.write_text("{")
    with pytest.raises(LabError) as caught:
        lifetime.down(LAB)
    sentence, *commands = str(caught.value).splitlines()
    assert sentence.startswith(f"{lab.paths.owned}: the record of what the lab made is damaged")
    assert f"`ip netns` lists as {LAB}-*" in sentence
    assert len(commands) == len(json.loads(record)["namespaces"]) + 1
    for command in commands:
        subprocess.run(["sh", "-ec", command], check=True)
    assert not namespaces()
    assert not lab.paths.root.exists()
    if json.loads(record)["madeNetnsMount"]:
        netns.restore_folder()


def test_sigterm_to_the_controller_takes_the_lab_down(manifest: Path) -> None:
    lab = start(manifest)
    controller = _processes(lab)[0].pid
    os.kill(controller, signal.SIGTERM)
    until(lambda: not lab.paths.root.exists(), "the lab is gone")
    lifetime._controllers.pop(controller).wait()


def test_down_ends_what_was_started_in_the_lab(manifest: Path) -> None:
    lab = start(manifest)
    shell = subprocess.Popen(["ip", "netns", "exec", f"{LAB}-web-1", "sleep", "1000"])
    inode = netns.inode(f"{LAB}-web-1")
    until(lambda: netns.of_process(shell.pid) == inode, "it is in the namespace")
    _kill(_processes(lab)[:1])
    lifetime.down(LAB)
    assert shell.wait() == -signal.SIGKILL


def test_down_leaves_a_namespace_that_only_has_the_name(manifest: Path) -> None:
    lab = start(manifest)
    _kill(_processes(lab))
    name = f"{LAB}-web-1"
    netns.remove(name, netns.inode(name) or 0)
    other: dict[str, int] = {}
    netns.create([name], other.update)
    sleeper = subprocess.Popen(["ip", "netns", "exec", name, "sleep", "1000"])
    try:
        lifetime.down(LAB)
        assert netns.inode(name) == other[name]
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()
        netns.remove(name, other[name])
        netns.restore_folder()


def test_a_crash_between_record_and_name_leaves_nothing() -> None:
    folder = FOLDER
    folder.mkdir(parents=True)
    owned = Owned(folder / "owned.json")
    mounted = netns.prepare_folder()
    if mounted:
        owned.set_netns_mount()

    def crash(inodes: dict[str, int]) -> None:
        owned.add_namespaces(inodes)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        netns.create([f"{LAB}-a", f"{LAB}-b"], crash)
    # The file that a name is mounted on, without the mount.
    netns.path(f"{LAB}-a").touch()
    assert removal.remove_all(Owned.load(folder / "owned.json"), folder) == [f"folder {folder}"]


def test_a_launcher_whose_gate_never_opens_ends(tmp_path: Path) -> None:
    from pylb.lab.enter import launcher

    marker = tmp_path / "ran"
    gate, opener = os.pipe()
    argv = launcher("/proc/self/ns/net", str(tmp_path), ["touch", str(marker)], gate=gate)
    process = subprocess.Popen(argv, pass_fds=(gate,))
    os.close(gate)
    assert process.poll() is None
    os.close(opener)
    assert process.wait() == 1
    assert not marker.exists()


def test_ctrl_c_during_up_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "cluster.yaml"
    path.write_text(CLUSTER)
    with pytest.raises(KeyboardInterrupt):
        lifetime.up([str(path)], LAB, "python", None, interrupt)


def test_the_record_names_everything(manifest: Path) -> None:
    lab = start(manifest)
    try:
        record = json.loads(lab.paths.owned.read_text())
        assert set(record["namespaces"]) == namespaces()
        inodes = set(record["namespaces"].values())
        running = set(removal.processes_in(inodes))
        recorded = {process["pid"] for process in record["processes"]}
        # A container's own children are found by their namespace.
        assert recorded <= running
        assert Machine.now().processes
    finally:
        lifetime.down(LAB)
