"""A netlink socket and the record of what was changed, for the length of one step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pylb.node.errors import NodeError
from pylb.node.plumbing import record


@contextmanager
def session(record_path: Path) -> Iterator[tuple[IPRoute, record.Record]]:
    """A netlink socket and the record, which is written back whatever happens.

    What the kernel refuses becomes a `NodeError`.
    """
    notes = record.load(record_path)
    try:
        with IPRoute() as ipr:
            yield ipr, notes
    except NetlinkError as error:
        reason = os.strerror(error.code)
        raise NodeError(f"the kernel refused a step of the plumbing: {reason}") from error
    finally:
        record.save(record_path, notes)
