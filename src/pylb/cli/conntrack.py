"""``pylb conntrack``: the options of conntrack(8), over the daemons of a lab."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pylb.cli.common import add_command, add_nodes
from pylb.cli.errors import CliError

if TYPE_CHECKING:
    from pylb.dataplane.base import FlowFilter

OUTPUTS = ("extended", "id", "timestamp", "counters", "xml", "json")
_ANY = ""


def register(commands: Any) -> None:
    """Add the ``conntrack`` command."""
    parser = add_command(
        commands,
        "conntrack",
        "list, watch, count and delete tracked flows, as conntrack(8) does",
        "pylb conntrack -L -p tcp --dport 80 --node node1",
        "pylb conntrack -E -e NEW,DESTROY -o timestamp",
        "pylb conntrack -D -d 10.96.0.10",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    for flag, long, action in (
        ("-L", "--dump", "list flows"),
        ("-E", "--event", "show events as they come, until Ctrl-C"),
        ("-S", "--stats", "show statistics"),
        ("-C", "--counter", "show how many flows there are"),
        ("-D", "--delete", "delete flows; exit status 1 when none matched"),
    ):
        what.add_argument(
            flag, long, dest="command", action="store_const", const=flag[1], help=action
        )
    _add_filters(parser.add_argument_group("filters"))
    parser.add_argument(
        "-o",
        "--output",
        metavar="FORMAT[,...]",
        default="",
        help=f"any of {', '.join(OUTPUTS)}; counters adds packets= and bytes=",
    )
    events = parser.add_argument_group("with -E")
    events.add_argument(
        "-e", "--event-mask", metavar="EVENT[,...]", default="ALL", help="NEW, UPDATES, DESTROY"
    )
    events.add_argument("--count", type=int, metavar="N", help="end after N events")
    events.add_argument("--timeout", type=float, metavar="SECONDS", help="end after SECONDS")
    add_nodes(parser)
    parser.set_defaults(run=_run)


def _add_filters(group: Any) -> None:
    ip = {"metavar": "IP[/MASK]"}
    port = {"metavar": "PORT"}
    nat: dict[str, Any] = {"metavar": "IP", "nargs": "?", "const": _ANY}
    group.add_argument("-s", "--src", "--orig-src", dest="src", **ip, help="original source")
    group.add_argument("-d", "--dst", "--orig-dst", dest="dst", **ip, help="original destination")
    group.add_argument("-r", "--reply-src", **ip, help="source of replies")
    group.add_argument("-q", "--reply-dst", **ip, help="destination of replies")
    group.add_argument("-p", "--protonum", dest="protocol", metavar="PROTO", help="tcp, udp, 47, …")
    group.add_argument("-f", "--family", choices=["ipv4"], help="only ipv4 is tracked")
    group.add_argument("-u", "--status", metavar="STATUS[,...]", help=f"any of {_STATUSES}")
    group.add_argument("-m", "--mark", metavar="MARK", help="the flow's mark")
    group.add_argument("-n", "--src-nat", **nat, help="source is translated (to IP)")
    group.add_argument("-g", "--dst-nat", **nat, help="destination is translated (to IP)")
    group.add_argument("-j", "--any-nat", **nat, help="either is translated (to IP)")
    group.add_argument(
        "--sport", "--orig-port-src", dest="sport", **port, help="original source port"
    )
    group.add_argument(
        "--dport", "--orig-port-dst", dest="dport", **port, help="original destination port"
    )
    group.add_argument("--reply-port-src", **port, help="source port of replies")
    group.add_argument("--reply-port-dst", **port, help="destination port of replies")
    group.add_argument(
        "--state", metavar="STATE", help="TCP state, e.g. ESTABLISHED; with -p sctp SCTP's"
    )
    group.add_argument("--id", metavar="ID", help="the flow's id, as -o id shows it")


_STATUSES = "ASSURED, SEEN_REPLY, UNREPLIED, UNSET, SRC_NAT, DST_NAT, CONFIRMED"


def filters(args: argparse.Namespace) -> list[FlowFilter]:
    """The filters that the options amount to: a flow is meant when any of them matches.

    There are two with ``-j`` and one otherwise.  Raises `CliError` with status 2
    for a value that cannot be.
    """
    from pylb.observe.flowjson import filter_from_query
    from pylb.observe.protocols import STATES, TCP, number_of

    query = {
        "src": args.src,
        "dst": args.dst,
        "replySrc": args.reply_src,
        "replyDst": args.reply_dst,
        "sport": args.sport,
        "dport": args.dport,
        "replySport": args.reply_port_src,
        "replyDport": args.reply_port_dst,
        "id": args.id,
    }
    try:
        where = filter_from_query({k: v for k, v in query.items() if v is not None})
        if args.protocol is not None:
            where = replace(where, protocol=number_of(args.protocol))
        if args.mark is not None:
            where = replace(where, mark=_mark(args.mark))
    except ValueError as error:
        raise CliError(str(error), status=2) from None
    if args.state is not None:
        state = args.state.upper()
        protocol = where.protocol if where.protocol in STATES else TCP
        if state not in STATES[protocol]:
            listed = ", ".join(STATES[protocol])
            raise CliError(f"--state {args.state}: expected one of {listed}", status=2)
        where = replace(where, state=state, protocol=_agree("-p", where.protocol, protocol))
    for status in (args.status or "").split(",") if args.status is not None else ():
        changes: dict[str, Any] = _status(status.strip().upper())
        where = replace(where, **changes)
    if args.src_nat is not None:
        where = _translated(where, "snat", "-n", args.src_nat)
    if args.dst_nat is not None:
        where = _translated(where, "dnat", "-g", args.dst_nat)
    if args.any_nat is None:
        return [where]
    return [_translated(where, nat, "-j", args.any_nat) for nat in ("snat", "dnat")]


def _mark(text: str) -> int:
    try:
        mark = int(text, 0)
    except ValueError:
        mark = -1
    if not 0 <= mark <= 0xFFFFFFFF:
        raise ValueError(f"-m {text}: expected a number from 0 to 4294967295, 0x… for hexadecimal")
    return mark


def _status(word: str) -> dict[str, bool]:
    match word:
        case "ASSURED":
            return {"assured": True}
        case "SEEN_REPLY":
            return {"seen_reply": True}
        case "UNREPLIED":
            return {"seen_reply": False}
        case "UNSET":
            return {"assured": False, "seen_reply": False}
        case "SRC_NAT":
            return {"snat": True}
        case "DST_NAT":
            return {"dnat": True}
        case "CONFIRMED":
            return {}
    raise CliError(f"-u {word}: expected any of {_STATUSES}", status=2)


def _translated(where: FlowFilter, nat: str, flag: str, address: str) -> FlowFilter:
    """``where`` for flows translated ``nat`` (snat, dnat), to ``address`` unless it is empty.

    What the source is translated to is where replies go; what the destination is
    translated to is where they come from.
    """
    from pylb.observe.flowjson import prefix_from_text

    changes: dict[str, Any] = {nat: True}
    if address != _ANY:
        try:
            prefix = prefix_from_text(address)
        except ValueError as error:
            raise CliError(f"{flag}: {error}", status=2) from None
        field = "reply_dst" if nat == "snat" else "reply_src"
        changes[field] = _agree(flag, getattr(where, field), prefix)
    return replace(where, **changes)


def _agree(flag: str, given: Any, wanted: Any) -> Any:
    if given is not None and given != wanted:
        raise CliError(f"{flag} contradicts another filter: {given} and {wanted}", status=2)
    return wanted


def _run(args: argparse.Namespace) -> int:
    from pylb.cli.conntrack_show import Show, count, delete, events, listing, stats

    words = [word for word in args.output.split(",") if word]
    for word in words:
        if word not in OUTPUTS:
            raise CliError(f"-o {word}: expected any of {', '.join(OUTPUTS)}", status=2)
    if args.command != "E" and (args.count is not None or args.timeout is not None):
        raise CliError("--count and --timeout go with -E", status=2)
    show = Show(frozenset(words))
    wanted = filters(args)
    match args.command:
        case "L":
            return listing(args, wanted, show)
        case "D":
            return delete(args, wanted, show)
        case "C":
            return count(args, wanted, show)
        case "S":
            return stats(args, show)
    return events(args, wanted, show)
