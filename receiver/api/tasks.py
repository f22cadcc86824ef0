"""`/api`: tasks for programs that have the admin token. It exists only if KLING_ADMIN_TOKEN is set.

    GET  /api/tasks             a page of tasks: filters as of `kling-archiver list`, and `limit` and `page`
    POST /api/tasks             {"task_id", "family", "external_task_id"?, "account"?, "request"?, "created_at"?}
    GET  /api/tasks/{id}        the same JSON as `kling-archiver show ID --json`; ?account= if several have the id
    POST /api/tasks/{id}/retry  asks the API for it again, now
    GET  /api/stats             the same JSON as `kling-archiver status --json`
    GET  /api/openapi.json      all of this for programs (`openapi`)

1. The token is checked first: without it, a client learns neither what exists nor whether its body was well-formed.
2. 200 is sent only after the commit. Registering and retrying are idempotent: a client without an answer repeats.
3. At most `LEDGER_CALLS_MAX` calls to the ledger run at once, in threads, so that callbacks hardly wait for the API.
   A page of tasks is made there too.
"""

import asyncio
import contextlib
import functools
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from archiver import log
from archiver.create import registration
from archiver.create.registration import NotARegistration, Registration
from archiver.failures import LedgerUnavailable, TaskForgotten
from archiver.ledger import Ledger, TaskView, Tombstone
from archiver.ledger.views import FilterProblem
from archiver.model import rfc3339
from archiver.problems import Expected, look
from receiver.api.answers import (
    ALREADY_ARCHIVED,
    AMBIGUOUS,
    FORGOTTEN,
    INVALID,
    NOT_NOW,
    OF_BODY,
    UNAUTHORIZED,
    UNKNOWN,
    ApiRefusal,
    answer,
    success,
)
from receiver.api.auth import AdminToken
from receiver.api.openapi import document
from receiver.api.queries import read_query
from receiver.server import replies
from receiver.server.bodies import BodyProblem, announced_bytes, read_body

BODY_BYTES_MAX = 256 * 1024
BODY_SECONDS_MAX = 10.0
LEDGER_CALLS_MAX = 4

_log = log.get()
_Result = TypeVar("_Result")
_Handler = Callable[[Request], Awaitable[Response]]


class Api:
    """The endpoints below `/api`.

    `now` gives Unix ms. `on_wanted(account)` runs after each commit that makes the API be queried. `links(task)` has
    the links of its files, by stem.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        token: str,
        expected: Expected,
        now: Callable[[], int],
        on_wanted: Callable[[str], None],
        links: Callable[[TaskView], Mapping[str, str]] = lambda _: {},
        operator_url: str | None = None,
    ) -> None:
        self._ledger = ledger
        self._token = AdminToken(token)
        self._expected = expected
        self._accounts = tuple(expected.families)
        self._now = now
        self._on_wanted = on_wanted
        self._links = links
        self._operator_url = operator_url
        self._ledger_calls = asyncio.Semaphore(LEDGER_CALLS_MAX)

    def routes(self) -> list[Route]:
        """One for each path, so that a refused method names all that there are."""
        handlers: Mapping[str, Mapping[str, _Handler]] = {
            "/api/tasks": {"GET": self.page, "POST": self.register},
            "/api/tasks/{id}": {"GET": self.show},
            "/api/tasks/{id}/retry": {"POST": self.retry},
            "/api/stats": {"GET": self.stats},
            "/api/openapi.json": {"GET": self.describe},
        }
        return [
            Route(path, self._guarded(by_method), methods=[*by_method])
            for path, by_method in handlers.items()
        ]

    def _guarded(self, by_method: Mapping[str, _Handler]) -> _Handler:
        """Only for holders of the token; a ledger that cannot be used is a refusal."""

        async def respond(request: Request) -> Response:
            if not self._token.is_in(request.headers.raw):
                return ApiRefusal(UNAUTHORIZED)
            try:
                return await by_method["GET" if request.method == "HEAD" else request.method](request)
            except LedgerUnavailable as error:
                _log.error("ledger.unavailable", message=str(error))
                return ApiRefusal(NOT_NOW)

        return respond

    async def page(self, request: Request) -> Response:
        """A page of tasks."""
        try:
            query = read_query(request.query_params.multi_items(), now=self._now())
            page = await self._call_ledger(
                functools.partial(self._ledger.views.tasks, query.chosen, page=query.page, limit=query.limit)
            )
        except FilterProblem as problem:
            return ApiRefusal(replies.malformed(str(problem)))
        back_to = page.searched_back_to
        return answer(
            {
                "tasks": [task.as_json() for task in page.rows],
                "next_page": page.next_page,
                "further_page": page.further_page,
                "searched_back_to": None
                if back_to is None or query.chosen.text is None
                else rfc3339(back_to),
            }
        )

    async def register(self, request: Request) -> Response:
        """Follow a task."""
        body = await _body_of(request)
        if isinstance(body, BodyProblem):
            return ApiRefusal(OF_BODY.get(body, INVALID))
        try:
            task = registration.read(_json(body), now=self._now())
            account = self._account_of(task)
        except NotARegistration as error:
            return ApiRefusal(replies.malformed(str(error)), is_body_read=True)
        try:
            is_new = await self._call_ledger(functools.partial(self._commit, task, account=account))
        except TaskForgotten:
            return ApiRefusal(FORGOTTEN, is_body_read=True)
        _log.info("task.registered", account=account, task_id=task.task_id, family=task.family, new=is_new)
        return success(
            {
                "task_id": task.task_id,
                "account": account,
                "family": task.family,
                "external_task_id": task.external_task_id,
                "new": is_new,
            }
        )

    async def show(self, request: Request) -> Response:
        """One task."""
        found, forgotten = await self._asked_for(request)
        if not found and forgotten:
            return answer(forgotten[0].as_json())
        if len(found) != 1:
            return ApiRefusal(AMBIGUOUS if found else UNKNOWN)
        return answer(found[0].as_json(self._links(found[0]), operator_url=self._operator_url))

    async def retry(self, request: Request) -> Response:
        """Try a task now."""
        found, forgotten = await self._asked_for(request)
        if len(found) != 1:
            return ApiRefusal(AMBIGUOUS if found else FORGOTTEN if forgotten else UNKNOWN)
        task = found[0]
        retry = functools.partial(self._ledger.registrations.retry, [task.task_id], account=task.account)
        result = await self._call_ledger(retry)
        if not result.retried:
            return ApiRefusal(ALREADY_ARCHIVED if result.archived else UNKNOWN)
        self._on_wanted(task.account)
        _log.info("task.retry_requested", account=task.account, task_id=task.task_id)
        return success({"task_id": task.task_id, "account": task.account, "was": task.state})

    async def stats(self, _: Request) -> Response:
        """The whole ledger at a glance."""
        view, problems = await self._call_ledger(functools.partial(look, self._ledger, self._expected))
        if view is None:
            return ApiRefusal(NOT_NOW)
        shown = view.as_json(several_accounts=len(self._accounts) > 1)
        return answer({**shown, "problems": [problem.as_json() for problem in problems]})

    async def describe(self, _: Request) -> Response:
        """The API, for programs."""
        return answer(document())

    async def _asked_for(self, request: Request) -> tuple[Sequence[TaskView], Sequence[Tombstone]]:
        identifier, account = request.path_params["id"], request.query_params.get("account")
        if not registration.is_identifier(identifier):
            return (), ()
        return await self._call_ledger(functools.partial(self._find, identifier, account=account))

    def _account_of(self, task: Registration) -> str:
        """The account that the registration names, or the only one. Raises NotARegistration."""
        names = ", ".join(self._accounts)
        if task.account is None and len(self._accounts) == 1:
            return self._accounts[0]
        if task.account is None:
            raise NotARegistration(f"account is missing, and there are several: {names}.")
        if task.account not in self._accounts:
            raise NotARegistration(f"account must be one of: {names}.")
        return task.account

    def _commit(self, task: Registration, *, account: str) -> bool:
        is_new = self._ledger.registrations.register(
            task.task_id,
            account=account,
            family=task.family,
            external_task_id=task.external_task_id,
            request=task.request,
            created_at=task.created_at,
        )
        self._on_wanted(account)
        return is_new

    def _find(self, identifier: str, *, account: str | None) -> tuple[list[TaskView], list[Tombstone]]:
        # Also of accounts that the settings do not name any more: the list has their tasks.
        known = dict.fromkeys((*self._accounts, *self._ledger.accounts.names()))
        accounts = [name for name in known if account is None or name == account]
        shown = (self._ledger.views.show(identifier, account=account) for account in accounts)
        found = [task for task in shown if task is not None]
        if found:
            return found, []
        tombstones = (self._ledger.views.forgotten(identifier, account=account) for account in accounts)
        return [], [tombstone for tombstone in tombstones if tombstone is not None]

    async def _call_ledger(self, call: Callable[[], _Result]) -> _Result:
        """A disconnect does not cancel a call that has begun."""
        async with self._ledger_calls:
            return await asyncio.to_thread(call)


async def _body_of(request: Request) -> bytes | BodyProblem:
    if announced_bytes(request.headers.raw) > BODY_BYTES_MAX:
        return BodyProblem.TOO_LARGE
    return await read_body(request.receive, bytes_max=BODY_BYTES_MAX, seconds_max=BODY_SECONDS_MAX)


def _json(body: bytes) -> object:
    """Raises NotARegistration, also for a 5000-digit number or 5000 nested lists."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
    raise NotARegistration("The body is not JSON.")


def _refuse_constant(_name: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")
