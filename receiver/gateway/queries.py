"""Single queries and lists: Kling's answer, recorded and with links; or the archive's answer, where Kling has none.

1. Kling is asked first, and its answer counts. It is recorded before the client gets it (`recorded_answers`), so the
   first `succeed` that a client sees has links. If the ledger cannot record it within a second, new tasks keep Kling's
   URLs, and the answer is counted.
2. A task that Kling does not show, for whatever reason, is answered from the bucket if it is archived
   (`archived_tasks`). After 3 s without an answer the bucket is tried as well. If it cannot be read, Kling's "not
   found"    is withheld, because the client would believe it.
3. Equal queries of one client within a second share one answer. No answer is shared between clients.

The account's limiter does not apply: clients spend Kling's rate nearly as they would without the gateway
(`family_search`), and get Kling's 1302 themselves.
"""

import asyncio
import dataclasses
import functools
import json
import time
import uuid
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import parse_qsl

from archiver import log
from archiver.families import SOLUTIONS, collection_of
from archiver.kling.dialects import Dialect
from archiver.kling.places import append_items
from archiver.metrics import GatewayKind, Metrics
from archiver.model import TASK_ID
from receiver.gateway.absence import JUDGED_BYTES_MAX, is_not_found
from receiver.gateway.archived_tasks import ArchivedTask, ArchivedTasks, ArchiveUnread
from receiver.gateway.blocking import BlockingCalls
from receiver.gateway.exchange import (
    GatewayAnswer,
    GatewayRequest,
    NoAnswer,
    NotReached,
    Source,
    Upstream,
    refusal,
)
from receiver.gateway.family_search import FamilySearch
from receiver.gateway.other_tasks import is_about_others, question_of
from receiver.gateway.recorded_answers import (
    AnswerOrigin,
    AnswerRecorder,
    RecordedAnswer,
    UnrecordedAnswer,
)
from receiver.gateway.sharing import SharedAnswers

ANSWER_SECONDS = 10.0
PATIENCE_SECONDS = 3.0
"""How long Kling may take to answer about a task that is archived."""
RECORD_SECONDS = 1.0
READ_BYTES_PER_SECOND = 2 * 1024 * 1024
"""Extra time for a long list, by its bytes: reading 500 rows takes a tenth of a second."""
REPLACED_BYTES_MAX = 32 * 1024 * 1024
IDS_MAX = 100
"""Kling takes 20."""

_IDS, _EXTERNAL_IDS = "task_ids", "external_task_ids"
_JSON = [(b"content-type", b"application/json")]
_log = log.get()
_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True, slots=True)
class _Wanted:
    """The tasks that a single query names."""

    names: tuple[str, ...]
    external: bool | None
    """Whether by external ids; None below `/v1/`, where the name may be either."""


class Queries:
    """See `Handler`. One event loop."""

    def __init__(
        self,
        upstream: Upstream,
        recorder: AnswerRecorder,
        archived: ArchivedTasks,
        metrics: Metrics,
        *,
        reads: BlockingCalls,
        writes: BlockingCalls,
        patience_seconds: float = PATIENCE_SECONDS,
        record_seconds: float = RECORD_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`reads` and `writes` do what the recorder does."""
        self._upstream = upstream
        self._recorder = recorder
        self._archived = archived
        self._reads = reads
        self._writes = writes
        self._unlinked = {
            kind: metrics.gateway_unlinked_total.labels(kind=kind)
            for kind in (GatewayKind.QUERY, GatewayKind.LIST)
        }
        self._patience_seconds = patience_seconds
        self._record_seconds = record_seconds
        self._shared = SharedAnswers(monotonic=monotonic)
        self._family_search = FamilySearch(
            lambda question, seconds: self._send(question, seconds=seconds), self._take, monotonic=monotonic
        )

    async def handle(self, request: GatewayRequest) -> GatewayAnswer:
        """Raises NotReached, NoAnswer."""
        if request.kind is not GatewayKind.QUERY:
            answer, _ = await self._recorded(request, await self._send(request))
            return answer
        client = request.client
        key = (client.account, client.authorization, request.path, request.raw_query)
        waited_before, began = request.waited.seconds, time.perf_counter()
        answer = await self._shared.get(key, functools.partial(self._query, request))
        if request.waited.seconds == waited_before:  # another request has asked
            request.waited.seconds += time.perf_counter() - began
        return answer

    # --- a single query ---------------------------------------------------------------------------------

    async def _query(self, request: GatewayRequest) -> GatewayAnswer:
        wanted, began = _wanted(request), time.monotonic()
        sending = asyncio.ensure_future(self._send(request))
        try:
            await asyncio.wait({sending}, timeout=self._patience_seconds)
            if not sending.done():
                whole = await self._from_archive(request, wanted)
                if whole is not None:
                    return whole
            answer = await sending
        except (NotReached, NoAnswer):
            whole = await self._from_archive(request, wanted)
            if whole is None:
                raise
            return whole
        finally:
            sending.cancel()
        left = began + self._patience_seconds - time.monotonic()
        answer, recorded = await self._recorded(request, answer, own_path_seconds=left)
        if recorded is None:
            return answer
        if await self._is_about_others(request, wanted, recorded):
            whole = await self._from_archive(request, wanted)
            if whole is None:
                raise NoAnswer("the answer is about other tasks")
            return whole
        return await self._completed(request, wanted, answer, recorded)

    async def _completed(
        self, request: GatewayRequest, wanted: _Wanted, answer: GatewayAnswer, recorded: RecordedAnswer
    ) -> GatewayAnswer:
        """The answer, with the archived tasks that it does not show."""
        is_collection = request.family is None
        said = recorded.shown if is_collection else recorded.names
        missing = [name for name in wanted.names if name not in said]
        if not missing:
            return answer
        try:
            found = await self._find(request, dataclasses.replace(wanted, names=tuple(missing)))
        except ArchiveUnread:
            return _unread() if recorded.is_success or is_not_found(answer) else answer
        if not found:
            return answer
        if recorded.is_success and is_collection and recorded.rows_place is not None:
            items = [task.as_json(_dialect(request)) for task in found]
            rows = recorded.rows_place
            count = (*rows[:-1], "count") if rows[-1:] == ("result",) else None
            append = functools.partial(append_items, recorded.body, rows, items, count=count)
            appended = await self._read(append, request, recorded.body)
            if appended != recorded.body:
                return _unread() if appended is None else _extended(answer, appended)
        shows_others = is_collection and bool(said)
        if shows_others or not (recorded.is_success or _are_all(wanted.names, found)):
            return answer
        return _made_of(request, found)

    async def _from_archive(self, request: GatewayRequest, wanted: _Wanted) -> GatewayAnswer | None:
        """None unless every task that was asked for is archived: of the others only Kling can speak."""
        try:
            found = await self._find(request, wanted)
        except ArchiveUnread:
            return None
        return _made_of(request, found) if found and _are_all(wanted.names, found) else None

    async def _find(self, request: GatewayRequest, wanted: _Wanted) -> list[ArchivedTask]:
        names = wanted.names
        ids = [name for name in names if wanted.external is not True and TASK_ID.fullmatch(name)]
        found = await self._archived.find(
            account=request.client.account,
            task_ids=ids,
            external_task_ids=names if wanted.external is not False else (),
            belongs=functools.partial(_belongs, request),
        )
        return sorted(found, key=lambda task: _position(names, task))

    # --- recording --------------------------------------------------------------------------------------

    async def _recorded(
        self, request: GatewayRequest, answer: GatewayAnswer, *, own_path_seconds: float = 0.0
    ) -> tuple[GatewayAnswer, RecordedAnswer | None]:
        """The answer as the client may have it, and what it says of tasks, unless it is too long to be looked at."""
        if not isinstance(answer.body, bytes):
            self._unlinked[request.kind].inc()
            return answer, None
        if not 200 <= answer.status < 300:
            refused = await self._read(
                functools.partial(self._recorder.refused, answer.body), request, answer.body
            )
            if refused is None:
                raise NoAnswer("a long refusal could not be read in time")
            return dataclasses.replace(answer, body=refused.body), refused
        recorded = await self._take(request, answer)
        if recorded is not None and recorded.at_own_paths and own_path_seconds > 0:
            wanted = recorded.at_own_paths[:IDS_MAX]
            if await self._family_search.record(request, wanted, seconds=own_path_seconds):
                recorded = await self._take(request, answer) or recorded
        if recorded is None and request.kind is GatewayKind.QUERY and len(answer.body) <= JUDGED_BYTES_MAX:
            recorded = self._recorder.unread(answer.body, _origin(request))
        if recorded is None or recorded.unlinked or not recorded.is_recorded:
            self._unlinked[request.kind].inc()
        if recorded is None:
            return answer, None
        return dataclasses.replace(answer, body=recorded.body), recorded

    async def _take(self, request: GatewayRequest, answer: GatewayAnswer) -> RecordedAnswer | None:
        """None where the ledger cannot be read in time."""
        if not isinstance(answer.body, bytes):
            return None
        seconds = self._seconds_for(answer.body)
        began = time.monotonic()
        read = functools.partial(self._recorder.read, answer.body, _origin(request))
        found = await self._tried(self._reads, read, request, seconds)
        if not isinstance(found, UnrecordedAnswer):
            return found
        left = began + seconds - time.monotonic()
        recorded = await self._tried(
            self._writes, functools.partial(self._recorder.record, found), request, left
        )
        if recorded is not None:
            return recorded
        unrecorded = functools.partial(self._recorder.unrecorded, found)
        return await self._tried(self._reads, unrecorded, request, seconds)

    async def _is_about_others(
        self, request: GatewayRequest, wanted: _Wanted, recorded: RecordedAnswer
    ) -> bool:
        """Where it cannot be said, Kling's word counts."""
        if not recorded.is_success or not recorded.shown.isdisjoint(wanted.names):
            return False
        question = question_of(request)
        if question is None:
            return False
        body, knows = recorded.body, functools.partial(self._recorder.knows, request.client.account)
        judge = functools.partial(is_about_others, body, question, is_task_id=knows)
        return await self._tried(self._reads, judge, request, self._seconds_for(body)) or False

    async def _read(
        self, call: Callable[[], _Result], request: GatewayRequest, body: bytes
    ) -> _Result | None:
        """What reads a body only: a long one in a thread, while the event loop goes on. None where that fails."""
        if len(body) <= JUDGED_BYTES_MAX:
            return call()
        return await self._tried(self._reads, call, request, self._seconds_for(body))

    def _seconds_for(self, body: bytes) -> float:
        return self._record_seconds + len(body) / READ_BYTES_PER_SECOND

    async def _tried(
        self, calls: BlockingCalls, call: Callable[[], _Result], request: GatewayRequest, seconds: float
    ) -> _Result | None:
        account = request.client.account
        try:
            return await calls.run(call, seconds=seconds)
        except TimeoutError:
            _log.warning("gateway.unrecorded", account=account, cause="the ledger took too long")
        except Exception as error:  # noqa: BLE001 -- Kling has answered: whatever we cannot do with it, the client gets it
            _log.warning("gateway.unrecorded", account=account, cause=str(error), exc_info=error)
        return None

    async def _send(self, request: GatewayRequest, *, seconds: float = ANSWER_SECONDS) -> GatewayAnswer:
        return await self._upstream.send(
            request, answer_seconds=seconds, buffered_bytes_max=REPLACED_BYTES_MAX
        )


def _origin(request: GatewayRequest) -> AnswerOrigin:
    collection = request.path[1:].partition(b"/")[0].decode("latin-1") if request.family is None else None
    is_list = request.kind is GatewayKind.LIST
    return AnswerOrigin(request.client.account, request.family, collection, request.identifier, is_list)


def _wanted(request: GatewayRequest) -> _Wanted:
    if request.identifier is not None:
        return _Wanted((request.identifier,), None)
    parameters = dict(parse_qsl(request.raw_query.decode("latin-1")))
    external = _IDS not in parameters
    listed = parameters.get(_EXTERNAL_IDS if external else _IDS, "").split(",")[:IDS_MAX]
    return _Wanted(tuple(dict.fromkeys(filter(None, listed))), external)


def _belongs(request: GatewayRequest, family: str) -> bool:
    """Whether Kling would show a task of this family at this path. `/tasks` shows all families except solutions."""
    if request.family is not None:
        return family == request.family
    is_solution = collection_of(family) == SOLUTIONS
    return is_solution == (_origin(request).collection == SOLUTIONS)


def _extended(answer: GatewayAnswer, body: bytes) -> GatewayAnswer:
    return dataclasses.replace(answer, body=body, source=Source.MANIFEST)


def _unread() -> GatewayAnswer:
    return refusal(
        503,
        5001,
        "The gateway could not read whether it has archived what Kling does not show.",
        retry_after_seconds=5,
    )


def _are_all(names: Sequence[str], found: Sequence[ArchivedTask]) -> bool:
    return all(any(task.is_called(name) for task in found) for name in names)


def _position(names: Sequence[str], task: ArchivedTask) -> int:
    return next((number for number, name in enumerate(names) if task.is_called(name)), len(names))


def _dialect(request: GatewayRequest) -> Dialect | None:
    """The dialect of the path; that of solutions is not known."""
    if request.family is not None:
        return Dialect.LEGACY
    return None if _origin(request).collection == SOLUTIONS else Dialect.NEW_STANDARD


def _made_of(request: GatewayRequest, found: Sequence[ArchivedTask]) -> GatewayAnswer:
    """Kling's envelope around what the archive has."""
    rows = b",".join(task.as_json(_dialect(request)) for task in found)
    data = rows if request.family is not None else b"[%b]" % rows
    said = json.dumps(
        {"code": 0, "message": "SUCCEED", "request_id": str(uuid.uuid4())}, separators=(",", ":")
    )
    body = b'%b,"data":%b}' % (said[:-1].encode("ascii"), data)
    return GatewayAnswer(200, _JSON, body, Source.MANIFEST)
