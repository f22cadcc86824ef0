"""`/api`: tasks for whoever has the admin token. Exists only where KLING_ADMIN_TOKEN is set.

    POST /api/tasks           {"task_id", "family", "external_task_id"?, "account"?, "request"?, "created_at"?}
    GET  /api/tasks/{id}      the same JSON as `kling-archiver show ID --json`; ?account= where several have the id

Three rules:

1. The token comes first: without it nobody learns what there is, nor whether a body was well-formed. It is compared as
   bytes, in constant time.
2. 200 is sent after the ledger has committed and never otherwise. To say the same again is harmless: a caller that got
   no answer sends it once more.
3. What the ledger is asked runs in a thread, so many at a time and no more: the callbacks' commits wait for nobody here
   but for the ledger's own lock.
"""

import asyncio
import contextlib
import dataclasses
import functools
import hmac
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from archiver import log
from archiver.create import registration
from archiver.create.registration import NotARegistration, Registration
from archiver.failures import LedgerUnavailable
from receiver.callbacks.endpoint import BodyProblem, announced_bytes, read_body
from receiver.server import replies
from receiver.server.replies import Reply

BODY_BYTES_MAX = 256 * 1024
BODY_SECONDS_MAX = 10.0
AT_A_TIME = 4
"""Questions to the ledger. Another one waits its turn, and its caller with it."""

UNAUTHORIZED = Reply(
    401,
    1000,
    "The admin token is missing or wrong: Authorization: Bearer.",
    ((b"www-authenticate", b"Bearer"),),
)
UNKNOWN = Reply(404, 1203, "No task has this id or external id.")
AMBIGUOUS = Reply(400, 1200, "Several accounts have this id: say which with ?account=.")
INVALID = Reply(400, 1200, "The body is no registration.")
NOT_NOW = Reply(503, 5001, "The ledger cannot be used now; please try again.", (replies.RETRY_AFTER,))
_PROBLEMS = {BodyProblem.TOO_LARGE: replies.TOO_LARGE, BodyProblem.TOO_SLOW: replies.TOO_SLOW}

_log = log.get()
_Answer = TypeVar("_Answer")


class Tasks(Protocol):
    """The ledger, as far as it is asked here. Both may block, and raise LedgerUnavailable."""

    def register(
        self,
        task_id: str,
        *,
        account: str,
        family: str,
        external_task_id: str | None = None,
        request: Mapping[str, object] | None = None,
        created_at: int | None = None,
    ) -> bool:
        """Committed when it returns; True when the id was new."""

    def show(self, task_id: str, *, account: str) -> dict[str, Any] | None:
        """The task, None when nobody knows it."""


class Api:
    """The endpoints. `now` gives Unix ms; `on_registered(account)` is told of each registration, after its commit."""

    def __init__(
        self,
        tasks: Tasks,
        *,
        token: str,
        accounts: Sequence[str],
        now: Callable[[], int],
        on_registered: Callable[[str], None],
    ) -> None:
        self._tasks = tasks
        self._token = token.encode()
        self._accounts = tuple(accounts)
        self._now = now
        self._on_registered = on_registered
        self._at_a_time = asyncio.Semaphore(AT_A_TIME)

    def routes(self) -> list[Route]:
        """For the application."""
        return [
            Route("/api/tasks", self.register, methods=["POST"]),
            Route("/api/tasks/{id}", self.show, methods=["GET"]),
        ]

    async def register(self, request: Request) -> Response:
        """Follow a task from now on."""
        if not self._is_admin(request):
            return _Refusal(UNAUTHORIZED)
        body = await _body_of(request)
        if isinstance(body, BodyProblem):
            return _Refusal(_PROBLEMS.get(body, INVALID))
        try:
            asked = registration.read(_json(body), now=self._now())
            account = self._account_of(asked)
        except NotARegistration as error:
            return _Refusal(dataclasses.replace(INVALID, message=str(error)))
        try:
            is_new = await self._in_turn(functools.partial(self._commit, asked, account=account))
        except LedgerUnavailable as error:
            _log.error("ledger.unavailable", message=str(error))
            return _Refusal(NOT_NOW)
        _log.info("task.registered", account=account, task_id=asked.task_id, family=asked.family, new=is_new)
        told = {"task_id": asked.task_id, "account": account, "family": asked.family}
        return _done({**told, "external_task_id": asked.external_task_id, "new": is_new})

    async def show(self, request: Request) -> Response:
        """One task, by its id or external id."""
        if not self._is_admin(request):
            return _Refusal(UNAUTHORIZED)
        identifier, account = request.path_params["id"], request.query_params.get("account")
        among = self._accounts if account is None else (account,)
        if not registration.is_identifier(identifier) or not set(among) <= set(self._accounts):
            return _Refusal(UNKNOWN)
        try:
            found = await self._in_turn(functools.partial(self._find, identifier, among=among))
        except LedgerUnavailable as error:
            _log.error("ledger.unavailable", message=str(error))
            return _Refusal(NOT_NOW)
        if len(found) != 1:
            return _Refusal(AMBIGUOUS if found else UNKNOWN)
        return Response(json.dumps(found[0]), media_type="application/json")

    def _is_admin(self, request: Request) -> bool:
        """Whether the one Authorization header is ours. The scheme's name has no case (RFC 9110)."""
        sent = [value for name, value in request.headers.raw if name == b"authorization"]
        scheme, _, token = (sent[0] if len(sent) == 1 else b"").partition(b" ")
        is_equal = hmac.compare_digest(token.strip(), self._token)
        return is_equal and scheme.lower() == b"bearer"

    def _account_of(self, asked: Registration) -> str:
        """Whose task it is. Raises NotARegistration."""
        names = ", ".join(self._accounts)
        if asked.account is None and len(self._accounts) == 1:
            return self._accounts[0]
        if asked.account is None:
            raise NotARegistration(f"account is missing, and there are several: {names}.")
        if asked.account not in self._accounts:
            raise NotARegistration(f"account must be one of: {names}.")
        return asked.account

    def _commit(self, asked: Registration, *, account: str) -> bool:
        is_new = self._tasks.register(
            asked.task_id,
            account=account,
            family=asked.family,
            external_task_id=asked.external_task_id,
            request=asked.request,
            created_at=asked.created_at,
        )
        self._on_registered(account)
        return is_new

    def _find(self, identifier: str, *, among: Sequence[str]) -> list[dict[str, Any]]:
        shown = (self._tasks.show(identifier, account=account) for account in among)
        return [task for task in shown if task is not None]

    async def _in_turn(self, ask: Callable[[], _Answer]) -> _Answer:
        """A caller that goes away does not end its question: whatever was begun is committed."""
        async with self._at_a_time:
            return await asyncio.to_thread(ask)


async def _body_of(request: Request) -> bytes | BodyProblem:
    if announced_bytes(request.headers.raw) > BODY_BYTES_MAX:
        return BodyProblem.TOO_LARGE
    return await read_body(request.receive, bytes_max=BODY_BYTES_MAX, seconds_max=BODY_SECONDS_MAX)


def _json(body: bytes) -> object:
    """The document in a body. Raises NotARegistration: a number of 5000 digits and a nesting of as many levels too."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
    raise NotARegistration("The body is not JSON.")


def _refuse_constant(_name: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


class _Refusal(Response):
    """An answer from the table, sent so that it arrives also where the body was not read to its end."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(status_code=reply.status)
        self._refusal = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- as in Response
        await replies.send_early(self._refusal, receive, send)


def _done(data: Mapping[str, object]) -> Response:
    """The envelope of Kling's own API around `data`."""
    envelope = {"code": 0, "message": "ok", "request_id": str(uuid.uuid4())}
    return Response(json.dumps({**envelope, "data": data}), media_type="application/json")
