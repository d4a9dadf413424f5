"""What kube-proxy tells of itself and of Services over HTTP, on the node's own ports.

=====================  =====================================================
127.0.0.1:10249        /proxyMode: the dataplane's name; /healthz: ok
0.0.0.0:10256          /healthz and /livez: is there a policy that packets obey
0.0.0.0:PORT           a Service's healthCheckNodePort: has this node a ready
                       endpoint?  A load balancer asks that of every node and
                       sends nothing to those that answer 503
=====================  =====================================================

A port that somebody else has is tried again with the next policy.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import NamedTuple

from pylb.control.http import PortServer, Request, Response, Router
from pylb.node.logs import Log
from pylb.node.served import ServedNode
from pylb.policy.model import Key, Policy

log = Log(__name__)

LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"
METRICS_PORT = 10249
HEALTH_PORT = 10256
_GRACE = 0.2
"""Seconds that a request under way gets when its port closes."""
_NOSNIFF = {"x-content-type-options": "nosniff"}


class Check(NamedTuple):
    """What a health check port tells: how many ready endpoints of a Service the node has."""

    service: Key
    endpoints: int


def checks(policy: Policy, node: str) -> dict[int, Check]:
    """By port, what the health check ports of ``node`` are to tell."""
    own = policy.nodes[node]
    found = {}
    for key, service in policy.services.items():
        if service.health_check_node_port:
            local = {
                endpoint.address
                for each in policy.slices.get(key, ())
                for endpoint in each.endpoints
                if endpoint.ready and endpoint.weight and endpoint.is_on(own)
            }
            found[service.health_check_node_port] = Check(key, len(local))
    return found


def answer(check: Check, healthy: bool, accept: str) -> Response:
    """Text in the words of Kubernetes' source-IP tutorial; to who wants JSON, kube-proxy's."""
    count = check.endpoints
    status = 200 if count and healthy else 503
    headers = {**_NOSNIFF, "x-load-balancing-endpoint-weight": str(count)}
    if "application/json" not in accept:
        found = f"{count} Service Endpoints found" if count else "No Service Endpoints Found"
        return Response(status, found + "\n", headers)
    namespace, name = check.service
    body = {
        "service": {"namespace": namespace, "name": name},
        "localEndpoints": count,
        "serviceProxyHealthy": healthy,
    }
    text = json.dumps(body, indent="\t")
    return Response(status, text, {**headers, "content-type": "application/json"})


class Health:
    """The servers of one node; belongs to the loop's thread."""

    def __init__(self, node: ServedNode) -> None:
        self._node = node
        self._fixed: list[PortServer] = []
        self._checks: dict[int, Check] = {}
        self._servers: dict[int, PortServer] = {}
        self._since = _now()

    @property
    def healthy(self) -> bool:
        """There is a policy that packets obey."""
        return self._node.desired.plan is not None

    async def start(self) -> None:
        """Listen on what is there with any policy, and follow the policies from now on."""
        metrics, health = Router(), Router()
        metrics.add("GET", "/proxyMode", self._said(lambda: self._node.dataplane_name))
        metrics.add("GET", "/healthz", self._said(lambda: "ok"))
        health.add("GET", "/healthz", self._healthz)
        health.add("GET", "/livez", self._livez)
        for address, port, router in (
            (LOOPBACK, METRICS_PORT, metrics),
            (EVERYWHERE, HEALTH_PORT, health),
        ):
            server = PortServer(address, port, router)
            if await _started(server, "kube-proxy's own"):
                self._fixed.append(server)
        self._node.watchers.append(self.update)
        await self.update()

    async def update(self) -> None:
        """Serve the health check ports that the node's policy has, and no others."""
        committed = self._node.desired.committed
        self._since = _now()
        self._checks = {}
        if committed is not None:
            self._checks = checks(committed.store.policy, self._node.desired.node)
        for port in self._servers.keys() - self._checks.keys():
            # Not for long: whoever applies the policy waits.
            await self._servers.pop(port).close(grace=_GRACE)
        for port in sorted(self._checks.keys() - self._servers.keys()):
            server = PortServer(EVERYWHERE, port, self._checked(port))
            service = "/".join(self._checks[port].service)
            if await _started(server, f"the health check port of Service {service}"):
                self._servers[port] = server

    async def close(self) -> None:
        """Stop serving."""
        servers = [*self._fixed, *self._servers.values()]
        self._fixed, self._servers = [], {}
        for server in servers:
            await server.close(grace=_GRACE)

    def _checked(self, port: int) -> Callable[[Request], Awaitable[Response]]:
        async def handler(request: Request) -> Response:
            check = self._checks.get(port)
            if check is None:
                return Response(503, "No Service Endpoints Found\n", _NOSNIFF)
            return answer(check, self.healthy, request.headers.get("accept", ""))

        return handler

    def _said(self, what: Callable[[], str]) -> Callable[[Request], Awaitable[Response]]:
        async def handler(request: Request) -> Response:
            return Response(200, what(), _NOSNIFF)

        return handler

    async def _healthz(self, request: Request) -> Response:
        return self._state({"nodeEligible": True})

    async def _livez(self, request: Request) -> Response:
        return self._state({})

    def _state(self, more: dict[str, bool]) -> Response:
        now = _now()
        # As long as all is well, kube-proxy calls itself updated just now.
        updated = now if self.healthy else self._since
        body = {"lastUpdated": _spelled(updated), "currentTime": _spelled(now), **more}
        return Response(200 if self.healthy else 503, body, _NOSNIFF)


async def _started(server: PortServer, what: str) -> bool:
    try:
        await server.start()
    except OSError as error:
        at = f"{server.address}:{server.port}"
        log.warning("port not served", at=at, port_of=what, error=error.strerror or str(error))
        return False
    return True


def _now() -> datetime:
    return datetime.now(UTC)


def _spelled(moment: datetime) -> str:
    """A time as Go prints it, which is how kube-proxy gives it."""
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f +0000 UTC")
