"""What a daemon checks before it starts; the daemon at work is in tests/netns."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pylb.control.paths import NodePaths
from pylb.node import daemon, tun
from pylb.node.errors import NodeError
from pylb.node.tun import Tun


def test_the_secret_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    secret = daemon._secret(path)
    assert len(secret) == 16
    assert path.stat().st_mode & 0o777 == 0o600
    assert daemon._secret(path) == secret
    path.write_bytes(b"short")
    with pytest.raises(NodeError, match="expected 16 bytes, got 5"):
        daemon._secret(path)


def test_there_is_one_daemon_for_a_node(tmp_path: Path) -> None:
    paths = NodePaths(tmp_path / "nodes" / "node1")
    with daemon._alone("node1", paths):
        assert paths.root.stat().st_mode & 0o777 == 0o700
        with (
            pytest.raises(NodeError, match="a daemon of node node1 is running"),
            daemon._alone("node1", paths),
        ):
            pass
    with daemon._alone("node1", paths):
        pass


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(NodeError, match="cannot be made: Not a directory"),
        daemon._alone("node1", NodePaths(tmp_path / "file" / "node1")),
    ):
        pass


def test_names_are_checked() -> None:
    with pytest.raises(NodeError, match="dataplane turbo"):
        daemon._dataplane("turbo", bytes(16))
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
