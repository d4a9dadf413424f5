"""Running the demo's steps and showing what came of them."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.resources import as_file, files
from ipaddress import IPv4Address

from pylb.control.client import Client
from pylb.control.paths import LabPaths
from pylb.dataplane.base import FlowView
from pylb.lab.demo.steps import Evidence, Step, steps
from pylb.lab.enter import launcher
from pylb.lab.lifetime import down, find_place, up
from pylb.observe.conntrack import flow_line
from pylb.observe.flowjson import flow_from_json
from pylb.policy.model import Overlay, Policy
from pylb.policy.objects import read
from pylb.policy.store import Store

_TRIES = 60
"""A random scheduler leaves one of two backends out 60 times in a row once in 10**18."""

_LOG_DEADLINE = 5.0
"""Seconds for a server's log line to be there."""

_WAYS = {True: "overlay", False: "no overlay", None: "either way"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step gave; ``wrong`` is empty when everything was as it must be."""

    step: Step
    saw: str
    way: str
    flow: FlowView | None
    wrong: str = ""


class StepFailed(Exception):
    """A request that did not come through at all."""


def run(name: str, dataplane: str, overlay: str | None, *, keep: bool) -> int:
    """Bring the demo's lab up, run every step, show the table, take the lab down.

    Gives 0 when everything was as it must be, 1 otherwise.  Raises `LabError`
    when the lab cannot be brought up.
    """
    started = time.monotonic()
    with as_file(files("pylb.lab.demo") / "cluster.yaml") as manifest:
        kind = Overlay(overlay) if overlay else None
        policy = Store.empty(kind).apply(read([manifest])).policy
        up([str(manifest)], name, dataplane, overlay, _progress)
    outcomes: list[Outcome] = []
    try:
        for step in steps(policy):
            _progress(f"  {step.title} ...")
            outcomes.append(_outcome(name, step))
        print(_report(policy, outcomes, dataplane))
        good = sum(not outcome.wrong for outcome in outcomes)
        seconds = time.monotonic() - started
        print(f"{good} of {len(outcomes)} as they must be, in {seconds:.1f} s.")
    finally:
        if keep:
            _progress(f"The lab stays up: sudo .venv/bin/pylb lab down --name {name} ends it.")
        else:
            down(name)
    return 0 if all(not outcome.wrong for outcome in outcomes) else 1


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _outcome(lab: str, step: Step) -> Outcome:
    try:
        return _try(lab, step)
    except StepFailed as failed:
        return Outcome(step, "nothing", "-", None, str(failed))


def _try(lab: str, step: Step) -> Outcome:
    """Run a step until the wanted backend answered, and look at the traces it left."""
    daemon = Client(LabPaths(lab).node(step.node).api)
    for _ in range(_TRIES):
        sent = _encapsulated(daemon)
        answer = _command(lab, step)
        way = _encapsulated(daemon) > sent
        hostname = _find(r"^hostname=(.*)$", answer)
        if not step.backend or hostname == step.backend:
            break
    else:
        raise StepFailed(f"{step.backend} did not answer any of {_TRIES} requests")
    flow = _flow(daemon, step)
    saw = _source(lab, step, answer, flow)
    wrong = ""
    if saw != str(step.source):
        wrong = f"the server saw {saw}, it must see {step.source}"
    elif step.encapsulated is not None and way != step.encapsulated:
        wrong = f"it went by {_WAYS[way]}, it must by {_WAYS[step.encapsulated]}"
    elif flow is None:
        wrong = "there is no conntrack entry for it"
    return Outcome(step, saw, _WAYS[way], flow, wrong)


def _command(lab: str, step: Step) -> str:
    place = find_place(lab, step.where)
    argv = launcher(f"/run/netns/{place.namespace}", str(place.folder), list(step.command))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode or not done.stdout.strip():
        said = (done.stderr or done.stdout).strip().splitlines()
        raise StepFailed(f"{step.command[0]} failed: {said[-1] if said else 'no answer'}")
    return done.stdout


def _encapsulated(daemon: Client) -> int:
    return int(daemon.get("/counters")["counters"]["overlay_out"])


def _flow(daemon: Client, step: Step) -> FlowView | None:
    """The newest conntrack entry of the step."""
    found = daemon.get("/conntrack", **step.flow)["flows"]
    return flow_from_json(found[-1]) if found else None


def _source(lab: str, step: Step, answer: str, flow: FlowView | None) -> str:
    if step.evidence is Evidence.ECHO:
        return _find(r"^client_address=(.*)$", answer)
    if step.evidence is Evidence.CONNTRACK:
        return str(IPv4Address(flow.reply.dst)) if flow else "nothing"
    pattern = r"^(\S+) - - .*" + re.escape(step.token)
    if step.evidence is Evidence.DNS_LOG:
        pattern = re.escape(step.token) + r"(\S+)$"
    log = find_place(lab, step.seen_by).folder / "log"
    deadline = time.monotonic() + _LOG_DEADLINE
    while time.monotonic() < deadline:
        found = _find(pattern, log.read_text(errors="replace"))
        if found:
            return found
        time.sleep(0.01)
    return "nothing"


def _find(pattern: str, text: str) -> str:
    """The first group of the last match, "" when there is none."""
    matches = re.findall(pattern, text, re.MULTILINE)
    return str(matches[-1]) if matches else ""


def _report(policy: Policy, outcomes: list[Outcome], dataplane: str) -> str:
    lines = [
        "",
        f"pylb demo: dataplane {dataplane}, overlay {policy.lab.overlay.value}.  "
        "Who asked what, and which source address the server saw:",
        "",
    ]
    head = ("what", "server saw", "must be", "way", "")
    rows = [
        (
            outcome.step.title,
            outcome.saw,
            str(outcome.step.source),
            outcome.way,
            "WRONG" if outcome.wrong else "ok",
        )
        for outcome in outcomes
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(number: str, row: tuple[str, ...]) -> str:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        return f"{number:>2}  " + "  ".join(cells).rstrip()

    lines += [line("#", head), line("", tuple("-" * width for width in widths))]
    for number, (outcome, row) in enumerate(zip(outcomes, rows, strict=True), 1):
        lines.append(line(str(number), row))
        lines.append(f"      {outcome.step.why}")
        if outcome.flow is not None:
            lines.append(f"      {outcome.step.node}: {flow_line(outcome.flow)}")
        if outcome.wrong:
            lines.append(f"      WRONG: {outcome.wrong}")
    return "\n".join([*lines, ""])
