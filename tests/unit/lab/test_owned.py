"""The record of what a lab made, and that nothing else is matched by it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylb.lab import netns, removal
from pylb.lab.errors import LabError
from pylb.lab.owned import Owned, Process, start_time


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_what_is_recorded_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "owned.json"
    owned = Owned(path)
    owned.set_controller(os.getpid())
    owned.add_namespaces({"lab-a": 1, "lab-b": 2})
    owned.forget_namespaces(["lab-b"])
    owned.add_processes({os.getpid(): "a test"})
    owned.set_netns_mount()
    again = Owned.load(path)
    assert again.namespaces == {"lab-a": 1}
    assert again.processes == owned.processes
    assert again.controller is not None
    assert again.controller.alive
    assert again.made_netns_mount
    assert again.from_this_boot
    assert [p.name for p in tmp_path.iterdir()] == ["owned.json"]


def test_no_record_is_an_empty_one(tmp_path: Path) -> None:
    owned = Owned.load(tmp_path / "owned.json")
    assert not owned.namespaces
    assert owned.controller is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"boot": 1}'])
def test_a_damaged_record_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "owned.json"
    path.write_text(text)
    with pytest.raises(LabError, match="the record of what the lab made is damaged"):
        Owned.load(path)


def test_a_process_is_the_same_only_with_the_same_start(
    sleeper: subprocess.Popen[bytes],
) -> None:
    start = start_time(sleeper.pid)
    assert start is not None
    other = Process(sleeper.pid, start + 1, "another")
    assert not other.alive
    assert not removal.kill(other)
    assert sleeper.poll() is None
    own = Process(sleeper.pid, start, "own")
    assert own.alive
    assert removal.kill(own)
    assert sleeper.wait() == -signal.SIGKILL
    assert not own.alive
    assert not removal.kill(own)


def test_a_zombie_does_not_count_as_alive() -> None:
    child = subprocess.Popen(["true"])
    start = start_time(child.pid) or 0
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not Process(child.pid, start, "zombie").alive
    child.wait()


def test_a_process_of_another_namespace_is_not_killed(sleeper: subprocess.Popen[bytes]) -> None:
    own = netns.of_process(sleeper.pid)
    assert own is not None
    assert not removal.kill_within(sleeper.pid, {own + 1})
    assert sleeper.poll() is None


def test_an_inode_counts_only_while_its_name_or_a_recorded_process_has_it(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    own = netns.of_process(sleeper.pid)
    assert own is not None
    owned = Owned(tmp_path / "owned.json")
    # The host's own inode under a name that is not there: as if it had been given anew.
    owned.add_namespaces({"ptlab-gone": own})
    assert removal.confirmed_inodes(owned) == set()
    owned.add_processes({sleeper.pid: "sleeper"})
    assert removal.confirmed_inodes(owned) == {own}


def test_after_another_boot_only_the_folder_is_removed(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    folder = tmp_path / "lab"
    folder.mkdir()
    path = folder / "owned.json"
    owned = Owned(path)
    owned.add_processes({sleeper.pid: "sleeper"})
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "boot": "another"}))
    assert removal.remove_all(Owned.load(path), folder) == [f"folder {folder}"]
    assert not folder.exists()
    assert sleeper.poll() is None
