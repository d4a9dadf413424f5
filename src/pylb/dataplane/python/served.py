"""The plan has changed: does a flow still go where it should?

Asked once for each flow and plan, with its first packet after the change.  A flow
remembers why it goes where it does, so that nobody has to look for those concerned:

- TCP that a frontend balanced stays until nothing has its backend's address any more.
- UDP moves as soon as its backend takes no new flows, with the client's next packet;
  what the backend still had to say is let through.
- A flow that nothing balanced is a Service's when its destination becomes a virtual
  address, for nobody else can be there.  Where the address is only redirected, what is
  open stays with whom it talks to, but for UDP, of which every packet is new.
"""

from __future__ import annotations

from pylb.dataplane.python.conntrack import REPLY, Flow
from pylb.dataplane.python.frontend import eligible
from pylb.dataplane.python.loaded import Loaded
from pylb.dataplane.python.packet import TCP, UDP
from pylb.plan.tables import FrontendKey


def still_right(loaded: Loaded, flow: Flow, direction: int, from_tun: bool) -> bool:
    """True if so, and the flow is of the plan's generation then."""
    if flow.backend is not None and flow.original.protocol == TCP:
        right = flow.backend[0] in loaded.plan.addresses
    elif direction == REPLY:
        return True
    elif flow.backend is not None:
        right = flow.backend in (_choices(loaded, flow) or ())
    else:
        right = not (from_tun and _is_taken(loaded, flow))
    if right:
        flow.generation = loaded.generation
    return right


def _is_taken(loaded: Loaded, flow: Flow) -> bool:
    """Is where a flow goes that nothing balanced a Service's since?"""
    if flow.original.dst in loaded.vips:
        return True
    return flow.original.protocol == UDP and _choices(loaded, flow) is not None


def _choices(loaded: Loaded, flow: Flow) -> list[tuple[int, int]] | None:
    """The backends, by address and port, that the flow may have; None: there is no frontend."""
    to = flow.original
    frontend = loaded.plan.frontends.get(FrontendKey(to.dst, to.dport, to.protocol))
    if frontend is None:
        return None
    choices = eligible(loaded.plan, frontend, to.src)
    if choices is None:
        return None
    return [(frontend.backends[i].address, frontend.backends[i].port) for i in choices]
