"""UDP fragments to the node's address, which no rule with a port can match.

A fragment after the first has no ports, and the kernel matches none for the
first either, so on the uplink's ingress they are redirected to the TUN whole;
the daemon reassembles them.  Two u32 filters do it: one lets everything pass
that is not a fragment (IP bytes 6 and 7 without DF are zero), the other takes
UDP to the node's address.
"""

from __future__ import annotations

import errno
from ipaddress import IPv4Address

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pylb.node.errors import NodeError
from pylb.node.plumbing.record import Record

_INGRESS = 0xFFFFFFF2
_CLSACT = 0xFFFFFFF1
_ETH_P_IP = 0x0800
_WHOLE = 28784
_FRAGMENTS = 28785
"""The filters' preferences: far from the small numbers that people choose."""
_CLASS = 0x00010001


def apply(ipr: IPRoute, uplink: str, index: int, tun: int, node_ip: int, rec: Record) -> list[str]:
    """Redirect UDP fragments to ``node_ip`` from ``uplink`` to the TUN; gives the changes.

    ``index`` and ``tun`` are interface indices, ``node_ip`` is in host order.
    Raises `NodeError` when the kernel has not got what it takes.
    """
    try:
        return _apply(ipr, uplink, index, tun, node_ip, rec)
    except NetlinkError as error:
        if error.code not in (errno.ENOENT, errno.EOPNOTSUPP):
            raise
        raise NodeError(
            "the kernel cannot redirect UDP fragments: expected its modules sch_ingress, "
            "cls_u32 and act_mirred"
        ) from None


def _apply(ipr: IPRoute, uplink: str, index: int, tun: int, node_ip: int, rec: Record) -> list[str]:
    changes = []
    if not _has_clsact(ipr, index):
        ipr.tc("add", "clsact", index=index)
        rec.clsact.append(uplink)
        rec.fragments.pop(uplink, None)
        changes.append(f"added clsact to {uplink}")
    wanted = [index, tun, node_ip]
    if rec.fragments.get(uplink) == wanted and _preferences(ipr, index) == {_WHOLE, _FRAGMENTS}:
        return changes
    _remove_filters(ipr, index)
    ipr.tc(
        "add-filter",
        "u32",
        index=index,
        parent=_INGRESS,
        prio=_WHOLE,
        protocol=_ETH_P_IP,
        target=_CLASS,
        keys=["0x0/0x3fff+6"],
    )
    ipr.tc(
        "add-filter",
        "u32",
        index=index,
        parent=_INGRESS,
        prio=_FRAGMENTS,
        protocol=_ETH_P_IP,
        target=_CLASS,
        keys=[f"{node_ip:#010x}/0xffffffff+16", "0x11/0xff+9"],
        action={"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": tun},
    )
    rec.fragments[uplink] = wanted
    changes.append(f"redirected UDP fragments to {IPv4Address(node_ip)} on {uplink}")
    return changes


def clean(ipr: IPRoute, uplink: str, index: int, rec: Record) -> list[str]:
    """Remove the filters, and the qdisc if plumbing added it."""
    changes = []
    if rec.fragments.pop(uplink, None) is not None:
        _remove_filters(ipr, index)
        changes.append(f"removed the filters on {uplink}")
    if uplink in rec.clsact:
        rec.clsact.remove(uplink)
        if _has_clsact(ipr, index):
            ipr.tc("del", "clsact", index=index)
            changes.append(f"removed clsact from {uplink}")
    return changes


def _has_clsact(ipr: IPRoute, index: int) -> bool:
    return any(qdisc["parent"] == _CLSACT for qdisc in ipr.get_qdiscs(index=index))


def _preferences(ipr: IPRoute, index: int) -> set[int]:
    """Which of our two filters are there."""
    present = {item["info"] >> 16 for item in ipr.get_filters(index=index, parent=_INGRESS)}
    return present & {_WHOLE, _FRAGMENTS}


def _remove_filters(ipr: IPRoute, index: int) -> None:
    for preference in _preferences(ipr, index):
        try:
            ipr.tc(
                "del-filter",
                "u32",
                index=index,
                parent=_INGRESS,
                prio=preference,
                protocol=_ETH_P_IP,
                target=0,
            )
        except NetlinkError as error:
            if error.code not in (errno.ENOENT, errno.EINVAL):
                raise
