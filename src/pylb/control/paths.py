"""Where a lab keeps its files: everything is under one folder that only root reads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


def run_root() -> Path:
    """The folder of all labs: ``/run/pylb``, or ``$PYLB_RUN`` when that is set."""
    return Path(os.environ.get("PYLB_RUN", "/run/pylb"))


@dataclass(frozen=True, slots=True)
class LabPaths:
    """The files of the lab called ``lab``.

    Nodes and pods get a folder each; a pod's is named ``NAMESPACE.POD``.
    """

    lab: str

    @property
    def root(self) -> Path:
        """The lab's own folder, mode 0700."""
        return run_root() / self.lab

    @property
    def api(self) -> Path:
        """The controller's socket, mode 0600."""
        return self.root / "api.sock"

    @property
    def owned(self) -> Path:
        """What the lab made, by name and inode: what `down` may remove."""
        return self.root / "owned.json"

    @property
    def log(self) -> Path:
        """The controller's log."""
        return self.root / "controller.log"

    def node(self, node: str) -> NodePaths:
        """The files of a node's daemon."""
        return NodePaths(self.root / "nodes" / node)

    def workload(self, name: str) -> Path:
        """The folder of a pod (``NAMESPACE.POD``) or of an outside host."""
        return self.root / "workloads" / name


@dataclass(frozen=True, slots=True)
class NodePaths:
    """The files of one node's daemon, in a folder of their own."""

    root: Path

    @property
    def api(self) -> Path:
        """The daemon's control socket, mode 0600."""
        return self.root / "api.sock"

    @property
    def log(self) -> Path:
        """The daemon's structured log, one JSON object a line."""
        return self.root / "daemon.log"

    @property
    def secret(self) -> Path:
        """16 random bytes, mode 0600.

        Kept over a daemon's restart, so that keyed choices (backend, SNAT port)
        come out as before and flows picked up midstream keep their backend.
        """
        return self.root / "secret"
