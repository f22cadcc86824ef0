"""A create: it is sent once, reports to us, and is registered before its client gets the answer.

The order is the guarantee.

1. The body is read. A body that is not one JSON object in UTF-8 is passed on untouched, and the sweep finds the task. A
   callback URL that we would not call is refused without asking Kling.
2. A reference is committed: the client's callback URL, and the request. If that fails, the body is passed on unchanged,
   and Kling itself calls the client.
3. The create is sent, with our callback URL in place of the client's. The URL has the reference behind our token:
   `/callbacks/<token>.<reference>/<family>`. A crash from here on, or a lost answer, leaves the reference in the
   ledger. Then the callback joins it with its task, or else the external id, or the time if nothing else can have made
   the task (`ledger/gateway_creates/by_time.py`). The reference is a path segment because Kling does not promise to
   keep the query of a callback URL.
4. It is sent once. Only if Kling has refused it because of its callback URL, it is sent again without one: nothing was
   created.
5. The task is registered, in the transaction that deletes the reference. If the ledger cannot do that within a second,
   the client gets its answer all the same, and the registration is repeated until it succeeds.

From the first byte sent, all of this is a task of its own: neither a client that leaves nor a server that stops waiting
for its requests cancels it. If the process ends meanwhile, the log names what was in flight; its reference stays.
"""

import asyncio
import dataclasses
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from archiver import log
from archiver.create.paths import CreatePath, create_path
from archiver.failures import LedgerUnavailable
from archiver.fetch.urls import ConsumerPolicy
from archiver.kling.places import replace_in_strings
from archiver.ledger.gateway_creates.creates import GatewayCreates
from archiver.ledger.gateway_creates.registering import CreatedTask, GatewayCreate
from archiver.metrics import CreateResult, Metrics
from receiver.gateway.blocking import BlockingCalls
from receiver.gateway.creates.answer import AnswerMeaning, CreateVerdict, judge
from receiver.gateway.creates.body import CreateBody, Edit, Editor, bytes_added
from receiver.gateway.creates.group_commit import FailedCreate, GroupCommit, RefusedCreate
from receiver.gateway.creates.later import Later
from receiver.gateway.creates.reading import CallbackAddress, CallbackUrlRefused, CreateReader
from receiver.gateway.creates.refused_urls import RefusedUrls
from receiver.gateway.creates.skimming import Unreadable
from receiver.gateway.exchange import (
    GatewayAnswer,
    GatewayRequest,
    NoAnswer,
    NotReached,
    RequestBody,
    Upstream,
    refusal,
)

ANSWER_SECONDS = 120.0
COMMIT_SECONDS = 1.0
"""How long a client waits for the ledger, before the create and after it."""
LATER_SECONDS = 10.0
"""The limit of a try for which no client waits."""
CLOSE_SECONDS = 2.0

_AWAY = (LedgerUnavailable, TimeoutError)

_log = log.get()


class Creates:
    """See `Handler`. One event loop."""

    def __init__(
        self,
        upstream: Upstream,
        ledger: GatewayCreates,
        calls: BlockingCalls,
        reading: BlockingCalls,
        *,
        addresses: Mapping[str, CallbackAddress],
        policy: ConsumerPolicy,
        metrics: Metrics,
        on_registered: Callable[[str], None],
        refused_urls: RefusedUrls,
        answer_seconds: float = ANSWER_SECONDS,
        commit_seconds: float = COMMIT_SECONDS,
    ) -> None:
        """`calls` are the ledger's, `reading` those of long bodies. `addresses` by account.
        `on_registered(account)` runs after each commit."""
        self._upstream = upstream
        self._ledger = ledger
        self._addresses = addresses
        self._reader = CreateReader(addresses, policy, reading)
        self._counts = {
            result: metrics.gateway_creates_total.labels(result=result) for result in CreateResult
        }
        self._group = GroupCommit(ledger, calls, on_registered=on_registered)
        self._refused_urls = refused_urls
        self._answer_seconds = answer_seconds
        self._commit_seconds = commit_seconds
        self._calls = calls
        self._later = Later()
        self._under_way: set[asyncio.Task[GatewayAnswer]] = set()

    async def handle(self, request: GatewayRequest) -> GatewayAnswer:
        """Raises NotReached, NoAnswer. Goes on to its end when it is cancelled."""
        path = create_path(request.path)
        if path is None:
            return await self._upstream.send(request, answer_seconds=self._answer_seconds)
        request.body.keep()
        task = asyncio.create_task(self._whole(request, path))
        self._under_way.add(task)
        task.add_done_callback(functools.partial(self._ended, request.body))
        return await asyncio.shield(task)

    async def _whole(self, request: GatewayRequest, path: CreatePath) -> GatewayAnswer:
        try:
            return await self._handle(request, path)
        except asyncio.CancelledError:  # by `close`: no other code has this task
            self._counts[CreateResult.NO_ANSWER].inc()
            _log.warning(
                "create.unanswered",
                account=request.client.account,
                family=path.family,
                cause="the process has ended before it",
            )
            raise

    def _ended(self, body: RequestBody, task: asyncio.Task[GatewayAnswer]) -> None:
        body.close()
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # the client that it was for may have left

    async def close(self, *, seconds: float = CLOSE_SECONDS) -> None:
        """Begin no more creates, and give running creates and pending writes a last moment."""
        if self._under_way:
            _, left = await asyncio.wait(self._under_way, timeout=seconds)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left, timeout=seconds)
        await self._later.close(seconds=seconds)

    async def _handle(self, request: GatewayRequest, path: CreatePath) -> GatewayAnswer:
        try:
            body, create = await self._reader.read(request, path)
        except Unreadable:
            self._counts[CreateResult.UNREADABLE].inc()
            _log.warning("create.unreadable", account=request.client.account, family=path.family)
            return await self._upstream.send(request, answer_seconds=self._answer_seconds)
        except CallbackUrlRefused as error:
            self._counts[CreateResult.REFUSED_URL].inc()
            return refusal(400, 1201, f"The gateway does not take this callback_url: {error}")
        if not await self._begin(create):
            self._counts[CreateResult.UNREFERENCED].inc()
            create = dataclasses.replace(create, client_callback_url=None)
            answer = await self._upstream.send(request, answer_seconds=self._answer_seconds)
            await self._settle(create, _verdict(answer))
            return answer
        return await self._referenced(request, path, body, create)

    async def _referenced(
        self, request: GatewayRequest, path: CreatePath, body: CreateBody, create: GatewayCreate
    ) -> GatewayAnswer:
        ours = self._addresses[create.account].of(create)
        name = request.path.removesuffix(b"/").decode("latin-1")
        without = body.without_url()
        takes_url = not self._refused_urls.covers(create.account, name)
        edits = body.with_url(ours, place=path.place) if takes_url else without
        try:
            answer = await self._send(request, edits)
            verdict = _verdict(answer)
            if verdict.names_our_field and takes_url:
                answer = await self._send(request, without)
                verdict = _verdict(answer)
                if verdict.meaning is AnswerMeaning.CREATED:
                    self._note_refused(name, create)
        except NotReached:
            self._refuse(create)
            raise
        except NoAnswer:
            self._counts[CreateResult.NO_ANSWER].inc()
            raise
        await self._settle(create, verdict)
        return _with_clients_url(answer, ours, create.client_callback_url or "")

    async def _begin(self, create: GatewayCreate) -> bool:
        """Commit the reference; whether it was committed in time."""
        try:
            await self._group.put(create, seconds=self._commit_seconds)
        except Exception as error:  # noqa: BLE001 -- whatever we cannot do with a create, Kling can
            _log.warning(
                "create.unreferenced",
                account=create.account,
                family=create.family,
                cause=str(error),
                exc_info=not isinstance(error, _AWAY),
            )
            # It may yet be committed, and the client would then get a forward besides Kling's own callback.
            abandon = self._in_thread(functools.partial(self._ledger.abandon, create))
            self._later.do(abandon, what="abandon", account=create.account)
            return False
        return True

    async def _send(self, request: GatewayRequest, edits: Sequence[Edit]) -> GatewayAnswer:
        if edits:
            request = dataclasses.replace(request, body=_EditedBody(request.body, edits))
        return await self._upstream.send(request, answer_seconds=self._answer_seconds)

    async def _settle(self, create: GatewayCreate, verdict: CreateVerdict) -> None:
        """Register the task. If Kling's answer does not name it, the reference stays, and waits for its task."""
        if verdict.meaning is AnswerMeaning.REFUSED:
            self._counts[CreateResult.REFUSED].inc()
            self._refuse(create)
        elif verdict.task_id is None:
            self._counts[CreateResult.NO_ANSWER].inc()
            _log.warning("create.unanswered", account=create.account, family=create.family)
            if verdict.meaning is AnswerMeaning.ERROR:
                self._write_later(FailedCreate(create.reference), what="note", account=create.account)
        else:
            await self._register(create, verdict.task_id)

    def _refuse(self, create: GatewayCreate) -> None:
        """Delete the reference: nothing was created."""
        self._write_later(RefusedCreate(create.reference), what="refuse", account=create.account)

    def _write_later(
        self, change: CreatedTask | RefusedCreate | FailedCreate, *, what: str, account: str
    ) -> None:
        write = functools.partial(self._group.put, change, seconds=LATER_SECONDS)
        self._later.do(write, what=what, account=account)

    async def _register(self, create: GatewayCreate, task_id: str) -> None:
        self._counts[CreateResult.REGISTERED].inc()
        created = CreatedTask(create, task_id)
        fields = {"account": create.account, "task_id": task_id, "family": create.family}
        try:
            is_new = await self._group.put(created, seconds=self._commit_seconds)
        except Exception as error:  # noqa: BLE001 -- the task exists, so its client gets Kling's answer
            _log.error(
                "create.unregistered", **fields, cause=str(error), exc_info=not isinstance(error, _AWAY)
            )
            self._write_later(created, what="register", account=create.account)
        else:
            _log.info("task.registered", **fields, new=is_new)

    def _note_refused(self, name: str, create: GatewayCreate) -> None:
        self._refused_urls.add(create.account, name)
        _log.warning("create.callback_refused", account=create.account, family=create.family)
        note = self._in_thread(functools.partial(self._ledger.note_callback_refused, create.account, name))
        self._later.do(note, what="note", account=create.account)

    def _in_thread(self, write: Callable[[], object]) -> Callable[[], Awaitable[object]]:
        return functools.partial(self._calls.run, write, seconds=LATER_SECONDS)


class _EditedBody(RequestBody):
    """A spooled body that is changed while it is sent."""

    def __init__(self, body: RequestBody, edits: Sequence[Edit]) -> None:
        self._body = body
        self._edits = edits
        self.bytes_count = body.bytes_count + bytes_added(edits)

    @property
    def is_in_memory(self) -> bool:
        return False

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        editor = Editor(self._edits)
        async for chunk in self._body.chunks():
            if piece := editor.feed(chunk):
                yield piece

    def keep(self) -> None:
        self._body.keep()

    def close(self) -> None:
        self._body.close()


def _verdict(answer: GatewayAnswer) -> CreateVerdict:
    """Whatever external id the answer names: a success must not look like an error, or the client pays twice."""
    if not isinstance(answer.body, bytes):
        return CreateVerdict(AnswerMeaning.UNKNOWN)
    return judge(answer.status, answer.body)


def _with_clients_url(answer: GatewayAnswer, ours: str, clients: str) -> GatewayAnswer:
    """Where our URL stands in an answer, the client's own is put back."""
    _, _, path = ours.partition("/callbacks/")
    token = path.partition("/")[0].encode()
    if not isinstance(answer.body, bytes) or token not in answer.body:
        return answer
    body = replace_in_strings(answer.body, lambda text: text.replace(ours, clients))
    return dataclasses.replace(answer, body=body)
