"""The controller's API: what `pylb apply`, `get`, `delete` and `lab status|down` call.

=======  =========  ===========================================================
GET      /status    nodes and their daemons, pods
GET      /objects   ``?kind=&namespace=``: {"objects": [...]} with their status
POST     /apply     {"objects": [{"file", "document", "body"}]}, all or none
POST     /create    the same for what must not be there yet
POST     /patch     {"ref": {"kind", "namespace", "name"}, "patch", "type"}, of type
                    strategic (the default), merge or json
POST     /delete    {"refs": [{"kind", "namespace", "name"}]}, all or none
POST     /down      end the lab; {"removed": [...]}
=======  =========  ===========================================================

400 is a request that cannot be understood, 422 one that the lab cannot be made
to obey, with every reason under ``errors``; after either nothing has changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from pylb.control.http import Handler, HttpError, Request, Response, Router
from pylb.lab.daemons import Refused
from pylb.lab.errors import LabError
from pylb.policy.errors import ManifestError
from pylb.policy.objects import RawObject, Ref, raw
from pylb.policy.patching import FORMS, PatchError

if TYPE_CHECKING:
    from pylb.lab.controller import Controller


def routes(controller: Controller) -> Router:
    """The handler of every request to the lab."""

    async def status(request: Request) -> Response:
        return Response(200, controller.status())

    async def objects(request: Request) -> Response:
        query = request.query
        found = controller.objects(query.get("kind") or None, query.get("namespace") or None)
        return Response(200, {"objects": found})

    async def apply(request: Request) -> Response:
        sent = [_raw(each) for each in _list(request, "objects")]
        return Response(200, await controller.apply([one for some in sent for one in some]))

    async def create(request: Request) -> Response:
        sent = [_raw(each) for each in _list(request, "objects")]
        return Response(200, await controller.create([one for some in sent for one in some]))

    async def patch(request: Request) -> Response:
        body = request.body if isinstance(request.body, dict) else {}
        form = body.get("type", FORMS[0])
        if form not in FORMS:
            raise HttpError(400, f"type: expected one of {', '.join(FORMS)}")
        return Response(200, await controller.patch(_ref(body.get("ref")), body.get("patch"), form))

    async def delete(request: Request) -> Response:
        refs = [_ref(each) for each in _list(request, "refs")]
        return Response(200, await controller.delete(refs))

    async def down(request: Request) -> Response:
        return Response(200, {"removed": await controller.take_down()})

    router = Router()
    router.add("GET", "/status", status)
    router.add("GET", "/objects", objects)
    router.add("POST", "/apply", _answered(apply))
    router.add("POST", "/create", _answered(create))
    router.add("POST", "/patch", _answered(patch))
    router.add("POST", "/delete", _answered(delete))
    router.add("POST", "/down", down)
    return router


def _answered(handler: Callable[[Request], Awaitable[Response]]) -> Handler:
    """``handler`` with what can be wrong with a policy turned into its status."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except ManifestError as error:
            problems = [str(problem) for problem in error.problems]
            raise HttpError(422, "the manifests are not valid", problems) from None
        except Refused as error:
            raise HttpError(422, "a daemon refuses the policy", error.errors) from None
        except PatchError as error:
            raise HttpError(422, f"the patch: {error}") from None
        except LabError as error:
            raise HttpError(422, str(error)) from None

    return answer


def _list(request: Request, name: str) -> list[Any]:
    value = request.body.get(name) if isinstance(request.body, dict) else None
    if not isinstance(value, list):
        raise HttpError(400, f"{name}: expected a list")
    return value


def _raw(value: Any) -> list[RawObject]:
    if not isinstance(value, dict) or not isinstance(value.get("body"), dict):
        raise HttpError(400, "objects: expected each with file, document and body")
    document = value.get("document", 0)
    if not isinstance(document, int):
        raise HttpError(400, "objects: document: expected a whole number")
    return raw(str(value.get("file", "<api>")), document, value["body"])


def _ref(value: Any) -> Ref:
    if not isinstance(value, dict):
        raise HttpError(400, "refs: expected objects with kind, namespace and name")
    names = [value.get(name, "") for name in ("kind", "namespace", "name")]
    if not all(isinstance(name, str) for name in names) or not names[0] or not names[2]:
        raise HttpError(400, "refs: expected each object's kind, namespace and name as text")
    return Ref(*names)
