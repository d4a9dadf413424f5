"""What `pylb conntrack` does: asks the daemons and prints in the asked format.

When several nodes are shown, each line ends with `` node=NAME`` (in XML an
attribute, in JSON a field), where parsers of conntrack's lines pass over it.  A
daemon that does not answer is one sentence on stderr and exit status 1; the
others are shown all the same.
"""

from __future__ import annotations

import argparse
import json
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pylb.cli.common import as_json, daemons
from pylb.cli.errors import CliError
from pylb.control.client import ApiError, Client, Unreachable
from pylb.dataplane.base import Event, FlowFilter, FlowView
from pylb.observe import conntrack, conntrack_xml
from pylb.observe.flowjson import (
    event_from_json,
    events_from_text,
    filter_to_query,
    flow_from_json,
)
from pylb.observe.stats import statistics, statistics_line


@dataclass(frozen=True, slots=True)
class Show:
    """The ``-o`` words, and how flows and events look by them."""

    words: frozenset[str]

    @property
    def json(self) -> bool:
        """As JSON."""
        return "json" in self.words

    @property
    def xml(self) -> bool:
        """As XML."""
        return "xml" in self.words

    @property
    def style(self) -> conntrack.Style:
        """What lines and elements show."""
        return conntrack.Style(
            extended="extended" in self.words,
            id="id" in self.words,
            timestamp="timestamp" in self.words,
            counters="counters" in self.words,
        )

    def flow(self, flow: FlowView, node: str) -> str:
        """A flow of a list; ``node`` is "" when there is only one."""
        if self.xml:
            return _labelled_xml(conntrack_xml.flow_element(flow, self.style), node)
        return _labelled(conntrack.flow_line(flow, self.style), node)

    def event(self, data: dict[str, Any], event: Event, node: str) -> str:
        """An event, from what the daemon said and what that means."""
        if self.json:
            return json.dumps({"node": node, **data})
        if self.xml:
            return _labelled_xml(conntrack_xml.event_element(event, self.style), node)
        return _labelled(conntrack.event_line(event, self.style), node)


def _labelled(line: str, node: str) -> str:
    return f"{line} node={node}" if node else line


def _labelled_xml(element: str, node: str) -> str:
    return element.replace("<flow", f'<flow node="{node}"', 1) if node else element


class _Asked:
    """The daemons that the options name, asked one after another."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.nodes = daemons(args)
        self.several = len(self.nodes) > 1
        self.answered = 0
        self.failed = 0

    def label(self, node: str) -> str:
        return node if self.several else ""

    def complain(self, error: Exception) -> None:
        print(f"pylb: {error}", file=sys.stderr)
        self.failed = 1

    def each(self, ask: Any) -> Iterator[tuple[str, Any]]:
        """(node, answer) of each daemon that answers."""
        for node, client in self.nodes:
            try:
                answer = ask(client)
            except (Unreachable, ApiError) as error:
                self.complain(error)
                continue
            self.answered += 1
            yield node, answer

    def close(self, count: int, what: str) -> None:
        """The closing line, of those that answered: there is none when nobody did."""
        sys.stdout.flush()
        if self.answered:
            print(conntrack.count_line(count, what), file=sys.stderr)


def _once(answers: Iterable[Any]) -> list[dict[str, Any]]:
    """The flows of several answers of one daemon, each flow once."""
    flows: dict[int, dict[str, Any]] = {}
    for answer in answers:
        for flow in answer["flows"]:
            flows.setdefault(flow["id"], flow)
    return list(flows.values())


def _print_flows(asked: _Asked, show: Show, found: Iterable[tuple[str, Any]], head: bool) -> int:
    """Print the flows of each node; gives how many there were."""
    count = 0
    documents: list[dict[str, Any]] = []
    for node, flows in found:
        for data in flows:
            if show.json:
                documents.append({"node": node, **data})
            else:
                if head and show.xml and not count:
                    print(conntrack_xml.HEADER)
                print(show.flow(flow_from_json(data), asked.label(node)))
            count += 1
    if show.json:
        print(as_json(documents))
    elif head and show.xml and count:
        print(conntrack_xml.FOOTER)
    return count


def listing(args: argparse.Namespace, wanted: list[FlowFilter], show: Show) -> int:
    """``-L``: the flows that match."""
    asked = _Asked(args)

    def ask(client: Client) -> Any:
        return _once(client.get("/conntrack", **filter_to_query(where)) for where in wanted)

    count = _print_flows(asked, show, asked.each(ask), head=True)
    asked.close(count, "flow entries have been shown")
    return asked.failed


def delete(args: argparse.Namespace, wanted: list[FlowFilter], show: Show) -> int:
    """``-D``: delete the flows that match and show them; 1 when there were none."""
    asked = _Asked(args)

    def ask(client: Client) -> Any:
        return _once(client.delete("/conntrack", **filter_to_query(where)) for where in wanted)

    count = _print_flows(asked, show, asked.each(ask), head=False)
    asked.close(count, "flow entries have been deleted")
    return asked.failed or (0 if count else 1)


def count(args: argparse.Namespace, wanted: list[FlowFilter], show: Show) -> int:
    """``-C``: how many flows there are (and match, which the tool does not offer)."""
    asked = _Asked(args)

    def ask(client: Client) -> int:
        return len(_once(client.get("/conntrack", **filter_to_query(w)) for w in wanted))

    documents = []
    for node, number in asked.each(ask):
        documents.append({"node": node, "count": number})
        if not show.json:
            print(_labelled(str(number), asked.label(node)))
    if show.json:
        print(as_json(documents))
    return asked.failed


def stats(args: argparse.Namespace, show: Show) -> int:
    """``-S``: one line of statistics for each daemon."""
    asked = _Asked(args)
    documents = []
    for node, answer in asked.each(lambda client: client.get("/counters")):
        counted = statistics(answer["counters"])
        documents.append({"node": node, **counted})
        if not show.json:
            label = asked.label(node)
            print(statistics_line(counted) + (f"node={label} " if label else ""))
    if show.json:
        print(as_json(documents))
    return asked.failed


_Item = tuple[str, dict[str, Any] | Exception | None]
_INTERRUPTED = Exception("interrupted")


def events(args: argparse.Namespace, wanted: list[FlowFilter], show: Show) -> int:
    """``-E``: events as they come, until Ctrl-C, a limit, or no daemon is left."""
    try:
        kinds = ",".join(sorted(kind.value for kind in events_from_text(args.event_mask)))
    except ValueError as error:
        raise CliError(f"-e: {error}", status=2) from None
    asked = _Asked(args)
    query = filter_to_query(wanted[0]) if len(wanted) == 1 else {}
    came: queue.SimpleQueue[_Item] = queue.SimpleQueue()
    streams = asked.each(lambda client: client.stream("/conntrack/events", events=kinds, **query))
    left = 0
    for node, stream in streams:
        threading.Thread(target=_follow, args=(node, stream, came), daemon=True).start()
        left += 1
    deadline = None if args.timeout is None else time.monotonic() + args.timeout
    shown = 0
    # Ctrl-C comes through the queue too, so that it cannot fall between an event and its count.
    before = signal.signal(signal.SIGINT, lambda *_: came.put(("", _INTERRUPTED)))
    try:
        while left and (args.count is None or shown < args.count):
            node, item = came.get(timeout=_remaining(deadline))
            if item is _INTERRUPTED:
                break
            if not isinstance(item, dict):
                left -= 1
                if item is not None:
                    asked.complain(item)
                continue
            if "lost" in item:
                print(f"pylb: {item['lost']} events of node {node!r} were lost", file=sys.stderr)
                continue
            event = event_from_json(item)
            if len(wanted) == 1 or any(where.matches(event.flow) for where in wanted):
                if show.xml and not shown:
                    print(conntrack_xml.HEADER)
                print(show.event(item, event, asked.label(node)), flush=True)
                shown += 1
    except queue.Empty:
        pass
    finally:
        signal.signal(signal.SIGINT, before)
    if show.xml and shown:
        print(conntrack_xml.FOOTER)
    asked.close(shown, "flow events have been shown")
    return asked.failed


def _remaining(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _follow(node: str, stream: Iterator[Any], came: queue.SimpleQueue[_Item]) -> None:
    """Pass a daemon's events on; None, or why, when they end."""
    try:
        for data in stream:
            came.put((node, data))
    except Exception as error:
        came.put((node, error))
    else:
        came.put((node, None))
