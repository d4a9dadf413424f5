"""What tests may need (root, programs) and how properties are tried.

``@pytest.mark.root`` skips a test without root.  ``@pytest.mark.tools("dig")``
skips it without the program.  Under CI both are failures: there, `make setup`
has installed everything and runs as root, so an absence is a fault of the set-up.

Under CI a test marked ``root`` that fails is tried once more in tests/kernel_facts, in
tests/netns/bench and in tests/conformance/test_*_oracle.py: what the kernel does and when, and
how fast a shared machine is, is not pylb's.  What failed the first time is printed, even when the
second try passed.  No other test is tried again, for that would hide a fault of pylb's that shows
only now and then; and elsewhere than under CI none is, for who looks wants to see it.

At the end of a session under CI that ran tests marked ``root``, the machine must have no
namespace, link or lab folder that it did not have before, by name.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import core

core.replace()

CI = bool(os.environ.get("CI"))

# No verdict depends on time.  A failure prints what replays it; CI tries the same every time.
settings.register_profile(
    "pylb",
    deadline=None,
    derandomize=CI,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("pylb")

_LEFT_DEADLINE = 10.0
_FOLDERS = {
    "namespace": Path("/run/netns"),
    "link": Path("/sys/class/net"),
    "lab folder": Path("/run/pylb"),
}
_TESTS = Path(__file__).parent
_OF_THE_MACHINE = ("kernel_facts/**/*.py", "netns/bench/**/*.py", "conformance/test_*_oracle.py")
"""Below this folder, where the kernel and the machine's speed are looked at."""
_AGAIN = pytest.StashKey[list[pytest.TestReport]]()
_BEFORE = pytest.StashKey[set[str]]()
_LEFT = pytest.StashKey[list[str]]()
_RAN_AS_ROOT = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    # `pylb` and ruff are beside Python; Debian keeps ip and nft out of other users' PATH.
    beside = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = os.pathsep.join([beside, path, "/usr/sbin", "/sbin"])
    config.stash[_BEFORE] = _present()
    config.stash[_RAN_AS_ROOT] = False
    config.stash[_AGAIN] = again = []
    config.pluginmanager.register(_FirstTries(again))


class _FirstTries:
    """Keeps the reports of failures that are tried again."""

    def __init__(self, kept: list[pytest.TestReport]) -> None:
        self._kept = kept

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome == "rerun":  # type: ignore[comparison-overlap]
            self._kept.append(report)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    again = {path for pattern in _OF_THE_MACHINE for path in _TESTS.glob(pattern)}
    for item in items if CI else []:
        if item.path in again and item.get_closest_marker("root"):
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root"):
        if os.geteuid() != 0:
            _lacking("needs root")
        item.config.stash[_RAN_AS_ROOT] = True
    needed = {name for mark in item.iter_markers("tools") for name in mark.args}
    missing = sorted(name for name in needed if shutil.which(name) is None)
    if missing:
        _lacking(f"needs {', '.join(missing)}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    # Session fixtures have been torn down by now.  The workers of pytest-xdist would see
    # each other's namespaces.
    # Elsewhere than under CI, somebody may well run a lab of their own meanwhile.
    # With workers, it is they who ran the tests.
    spread = bool(session.config.getoption("numprocesses", 0))
    if not CI or not (session.config.stash[_RAN_AS_ROOT] or (spread and os.geteuid() == 0)):
        return
    if hasattr(session.config, "workerinput"):
        return
    before = session.config.stash[_BEFORE]
    until = time.monotonic() + _LEFT_DEADLINE
    # The kernel removes a dead namespace's links in its own time.
    while (left := _present() - before) and time.monotonic() < until:
        time.sleep(0.05)
    session.config.stash[_LEFT] = sorted(left)
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if again := terminalreporter.config.stash[_AGAIN]:
        terminalreporter.section("failed at first, and tried again", yellow=True)
        for report in again:
            terminalreporter.line(f"{report.nodeid} ({report.when})")
            terminalreporter.line(str(report.longrepr))
    if left := terminalreporter.config.stash.get(_LEFT, []):
        terminalreporter.section("left behind by the tests", red=True)
        for name in left:
            terminalreporter.line(name)


def _lacking(reason: str) -> None:
    if CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _present() -> set[str]:
    """Everything of the kinds that tests make, as "kind name"."""
    return {
        f"{kind} {path.name}"
        for kind, folder in _FOLDERS.items()
        if folder.is_dir()
        for path in folder.iterdir()
    }
