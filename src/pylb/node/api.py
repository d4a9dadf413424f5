"""The daemon's control API: what is served on its socket, and in what words.

=======  ====================  ================================================
GET      /healthz              who this is and which policy it has
POST     /policy/validate      stage a policy, whole or as a change; changes nothing
POST     /policy/commit        make the staged policy the node's
POST     /policy               both in one
GET      /plan                 the committed plan
GET      /conntrack            flows; the query filters (`pylb.observe.flowjson`)
DELETE   /conntrack            delete those flows; gives them
GET      /conntrack/events     events as they come, one JSON object a line
GET      /counters             counters by name
=======  ====================  ================================================

Statuses: 400 a request that cannot be understood, 409 one that builds on what is
not there (the base of a change, a stage), 422 a policy that cannot be taken,
with every reason under ``errors``.  After any of them the node is as before.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from pylb.control.http import Handler, HttpError, Request, Response, Router, Stream
from pylb.dataplane.base import EventKind, FlowFilter, FlowView
from pylb.node.desired import Conflict, Refused, Staged
from pylb.node.errors import NodeError
from pylb.node.events import Listener
from pylb.node.served import ServedNode
from pylb.observe.flowjson import event_to_json, events_from_text, filter_from_query, flow_to_json
from pylb.plan.tables import PlanError
from pylb.policy.objects import Ref


def routes(node: ServedNode) -> Router:
    """The handler of every request to ``node``."""
    api = _Api(node)
    router = Router()
    router.add("GET", "/healthz", api.healthz)
    router.add("POST", "/policy/validate", _answered(api.validate))
    router.add("POST", "/policy/commit", _answered(api.commit))
    router.add("POST", "/policy", _answered(api.policy))
    router.add("GET", "/plan", api.plan)
    router.add("GET", "/conntrack", api.flows)
    router.add("DELETE", "/conntrack", api.delete)
    router.add("GET", "/conntrack/events", api.events)
    router.add("GET", "/counters", api.counters)
    return router


def _answered(handler: Handler) -> Handler:
    """``handler`` with what can be wrong with a policy turned into its status."""

    async def answer(request: Request) -> Response | Stream:
        try:
            return await handler(request)
        except Conflict as error:
            raise HttpError(409, str(error)) from None
        except Refused as error:
            raise HttpError(422, "the policy is not valid", error.errors) from None
        except PlanError as error:
            raise HttpError(422, "the plan is not valid", [str(error)]) from None
        except NodeError as error:
            raise HttpError(500, str(error)) from None

    return answer


class _Api:
    def __init__(self, node: ServedNode) -> None:
        self._node = node

    async def healthz(self, request: Request) -> Response:
        return Response(200, self._node.health())

    async def validate(self, request: Request) -> Response:
        async with self._node.turn:
            staged = await self._stage(_mapping(request.body))
        return Response(200, {"number": staged.number})

    async def commit(self, request: Request) -> Response:
        number = _whole_number(_mapping(request.body), "number")
        async with self._node.turn:
            return await self._commit(self._node.desired.ready(number))

    async def policy(self, request: Request) -> Response:
        async with self._node.turn:
            body = {"number": self._node.desired.number + 1, **_mapping(request.body)}
            return await self._commit(await self._stage(body))

    async def _stage(self, body: Mapping[str, Any]) -> Staged:
        desired = self._node.desired
        number = _whole_number(body, "number")
        stage: Callable[[], Staged]
        if "objects" in body:
            known = {"number", "objects"}
            objects = _list(body, "objects")

            def stage() -> Staged:
                return desired.whole(number, objects)
        else:
            known = {"number", "base", "apply", "delete"}
            base = _whole_number(body, "base") if "base" in body else desired.number
            applied, deleted = _list(body, "apply"), [_ref(each) for each in _list(body, "delete")]

            def stage() -> Staged:
                return desired.change(number, base, applied, deleted)

        if unknown := sorted(set(body) - known):
            raise HttpError(400, f"{unknown[0]}: expected only {', '.join(sorted(known))}")
        return await self._node.stage(stage)

    async def _commit(self, staged: Staged) -> Response:
        await self._node.commit(staged)
        return Response(200, {"generation": self._node.generation, "number": staged.number})

    async def plan(self, request: Request) -> Response:
        plan = self._node.desired.plan
        if plan is None:
            raise HttpError(404, f"node {self._node.desired.node} has no policy yet")
        return await _encoded(plan.to_json)

    async def flows(self, request: Request) -> Response:
        flows = self._node.flows(_filter(request.query))
        return await _encoded(lambda: {"flows": _in_json(flows)})

    async def delete(self, request: Request) -> Response:
        gone = self._node.delete(_filter(request.query))
        return await _encoded(lambda: {"deleted": len(gone), "flows": _in_json(gone)})

    async def events(self, request: Request) -> Stream:
        where = _filter(request.query, "events")
        try:
            text = request.query.get("events")
            kinds = frozenset(EventKind) if text is None else events_from_text(text)
        except ValueError as error:
            raise HttpError(400, f"events: {error}") from None
        return Stream(_told(self._node.events.subscribe(where, kinds)))

    async def counters(self, request: Request) -> Response:
        return Response(200, {"counters": dict(self._node.counters())})


async def _told(listener: Listener) -> AsyncIterator[dict[str, Any]]:
    """Events as JSON; ``{"lost": n}`` where the listener was too slow for n of them."""
    try:
        async for event in listener:
            yield {"lost": event} if isinstance(event, int) else event_to_json(event)
    finally:
        listener.close()


async def _encoded(value: Callable[[], Any]) -> Response:
    """An answer that may be long, made beside the packets."""
    text = await asyncio.to_thread(lambda: json.dumps(value()) + "\n")
    return Response(200, text, {"content-type": "application/json"})


def _in_json(flows: list[FlowView]) -> list[dict[str, Any]]:
    return [flow_to_json(flow) for flow in flows]


def _filter(query: Mapping[str, str], *also: str) -> FlowFilter:
    try:
        return filter_from_query(query, also)
    except ValueError as error:
        raise HttpError(400, str(error)) from None


def _mapping(body: Any) -> Mapping[str, Any]:
    if not isinstance(body, dict):
        raise HttpError(400, "the body: expected a JSON object")
    return body


def _whole_number(body: Mapping[str, Any], name: str) -> int:
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise HttpError(400, f"{name}: expected a whole number, got {json.dumps(value)}")
    return value


def _list(body: Mapping[str, Any], name: str) -> list[Any]:
    value = body.get(name, [])
    if not isinstance(value, list):
        raise HttpError(400, f"{name}: expected a list")
    return value


def _ref(value: Any) -> Ref:
    if not isinstance(value, dict):
        raise HttpError(400, "delete: expected objects with kind, namespace and name")
    names = [value.get(name, "") for name in ("kind", "namespace", "name")]
    if not all(isinstance(name, str) for name in names) or not names[0] or not names[2]:
        raise HttpError(400, "delete: expected each object's kind, namespace and name as text")
    return Ref(*names)
