"""What is said of a workload that is not ready."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pylb.lab.names import Place
from pylb.lab.owned import Owned
from pylb.lab.process import Child, Children
from pylb.lab.workloads import Workload
from pylb.policy.model import Container
from tests.unit.lab.policies import pod


class Running(Child):
    """A process that runs, and has done so for ``age`` seconds, whatever the clock says."""

    pid = 1

    def __init__(self, age: float) -> None:
        self._age = age

    @property
    def alive(self) -> bool:
        return True

    @property
    def age(self) -> float:
        return self._age


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Workload]:
    """A pod without ports whose one container ended with status 3 and was started again."""
    container = Container("main", command=("sh", "-c", "sleep 0.1; exit 3"))
    place = Place("failing", "lab-failing", tmp_path, "failing")
    children = Children(Owned(tmp_path / "owned.json"))
    made = Workload(place, pod("failing", containers=(container,)), children, lambda: None)
    [running] = made.running
    running.restarts, running.last_status = 1, 3
    yield made
    made._close()


def test_a_container_that_was_just_started_again_is_not_ready_for_how_it_ended(
    failing: Workload,
) -> None:
    """Looked at in this moment, it was said to lack ports, of which it has none."""
    [running] = failing.running
    ended = "container main ended with status 3, restarted 1 time"
    assert (failing.ready(), failing.condition()) == (False, ended)
    running.child = Running(age=0)
    assert (failing.ready(), failing.condition()) == (False, ended)
    running.child = Running(age=3600)
    assert failing.ready()
