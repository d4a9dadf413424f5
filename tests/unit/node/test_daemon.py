"""What a daemon checks before it starts; the daemon at work is in tests/netns."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pylb.control.paths import NodePaths
from pylb.node import daemon, folder, tun
from pylb.node.desired import Desired
from pylb.node.errors import NodeError
from pylb.node.plumbing import Names, Plumbing
from pylb.node.tun import Tun


def no() -> bool:
    """Nothing in the namespace refers to the daemon's files."""
    return False


def test_the_secret_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    secret = folder.secret(path)
    assert len(secret) == 16
    assert path.stat().st_mode & 0o777 == 0o600
    assert folder.secret(path) == secret
    path.write_bytes(b"short")
    with pytest.raises(NodeError, match="expected 16 bytes, got 5"):
        folder.secret(path)


def test_there_is_one_daemon_for_a_node(tmp_path: Path) -> None:
    paths = NodePaths(tmp_path / "nodes" / "node1")
    with folder.alone("node1", paths, no):
        assert paths.root.stat().st_mode & 0o777 == 0o700
        with (
            pytest.raises(NodeError, match="a daemon of node node1 is running"),
            folder.alone("node1", paths, no),
        ):
            pass
    with folder.alone("node1", paths, no):
        pass


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(NodeError, match="cannot be made: Not a directory"),
        folder.alone("node1", NodePaths(tmp_path / "file" / "node1"), no),
    ):
        pass


def start(paths: NodePaths, needed: bool = False) -> None:
    """A daemon that is refused after it has made its secret."""

    def run() -> None:
        with folder.alone("node1", paths, lambda: needed):
            folder.secret(paths.secret)
            raise NodeError("the policy is bad")

    with pytest.raises(NodeError, match="the policy is bad"):
        run()


def test_a_refused_daemon_leaves_nothing(tmp_path: Path) -> None:
    """A folder left behind would be in the way of a lab of that name."""
    paths = NodePaths(tmp_path / "pylb" / "nodes" / "node1")
    start(paths)
    assert list(tmp_path.iterdir()) == []
    start(paths, needed=True)
    assert paths.secret.exists(), "the namespace is plumbed, and is to be cleaned"


def test_a_refused_daemon_takes_only_what_is_its_own(tmp_path: Path) -> None:
    paths = NodePaths(tmp_path / "node1")
    paths.root.mkdir()
    (paths.root / "hostname").write_text("node1")
    start(paths)
    assert [path.name for path in paths.root.iterdir()] == ["hostname"]
    secret = folder.secret(paths.secret)
    start(paths)
    assert folder.secret(paths.secret) == secret


def test_clean_removes_a_lone_daemons_folders_and_no_others(tmp_path: Path) -> None:
    nodes = tmp_path / "pylb" / "nodes"
    for name in ("node1", "node2"):
        with folder.alone(name, NodePaths(nodes / name), no):
            folder.secret(nodes / name / "secret")
    for name in ("node1", "node2"):
        paths = NodePaths(nodes / name)
        with folder.alone(name, paths, no):
            folder.clear(paths, (paths.root, *paths.root.parents[:2]))
        assert not paths.root.exists()
        assert nodes.exists() is (name == "node1")
    assert list(tmp_path.iterdir()) == []


def test_clean_leaves_a_labs_folder_as_it_is(tmp_path: Path) -> None:
    paths = NodePaths(tmp_path / "node1")
    with folder.alone("node1", paths, no):
        folder.secret(paths.secret)
        (paths.root / "hostname").write_text("node1")
        folder.clear(paths, (paths.root,))
    assert {path.name for path in paths.root.iterdir()} == {"lock", "secret", "hostname"}


def test_names_are_checked(tmp_path: Path) -> None:
    desired = Desired("node1", None)
    plumbing = Plumbing(Names(), tmp_path / "plumbing.json")
    with pytest.raises(NodeError, match="dataplane turbo"):
        daemon._userspace(desired, "turbo", bytes(16), plumbing)
    with pytest.raises(NodeError, match="overlay geneve: expected one of vxlan, udp, host-gw"):
        daemon._overlay("geneve")


def test_a_missing_clone_device_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="is not there; it is made by `modprobe tun`"):
        tun.check(tmp_path / "tun")
    (tmp_path / "file").write_text("")
    with pytest.raises(NodeError):
        Tun("pylb0", tmp_path / "file")
    with pytest.raises(NodeError, match="is not an interface name"):
        Tun("a-name-too-long-for-linux")


def test_another_device_in_its_place_is_told_from_a_tun() -> None:
    with pytest.raises(NodeError, match="/dev/null is there but is not the TUN driver's"):
        tun.check(Path("/dev/null"))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EBUSY, "is open in another process"),
        (errno.EPERM, "CAP_NET_ADMIN"),
        (errno.EINVAL, "is not a TUN device"),
        (errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_every_refusal_of_a_tun_is_explained(number: int, words: str) -> None:
    assert words in tun._refusal("pylb0", OSError(number, os.strerror(number)))
