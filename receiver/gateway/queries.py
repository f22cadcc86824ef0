"""Single queries and lists: what Kling says, recorded and with links; where it cannot say it, what the archive has.

1. Kling is asked first, and its word counts. It is recorded before the client has it (`recorded_answers`), so the first
   `succeed` that a client sees has links. If the ledger cannot take it within a second, the answer goes out as it came,
   and is counted.
2. A task that Kling does not show, whatever the cause, is answered from the bucket if it is archived
   (`archived_tasks`). After 3 s without an answer that is tried as well.
3. Equal queries of one client within a second share one answer. No answer is shared between clients.

The account's limiter is not asked: clients spend Kling's rate as if they had no gateway, and a 1302 is theirs.
"""

import asyncio
import dataclasses
import functools
import json
import time
import uuid
from collections.abc import Callable, Sequence
from urllib.parse import parse_qsl, quote

from archiver import log
from archiver.families import SOLUTIONS, collection_of
from archiver.kling.dialects import Dialect
from archiver.kling.places import append_items
from archiver.metrics import GatewayKind, Metrics
from archiver.model import TASK_ID
from receiver.gateway.archived_tasks import ArchivedTask, ArchivedTasks
from receiver.gateway.blocking import BlockingCalls
from receiver.gateway.exchange import (
    GatewayAnswer,
    GatewayRequest,
    NoAnswer,
    NotReached,
    Source,
    Upstream,
)
from receiver.gateway.recorded_answers import AnswerOrigin, AnswerRecorder, RecordedAnswer
from receiver.gateway.sharing import SharedAnswers

ANSWER_SECONDS = 10.0
PATIENCE_SECONDS = 3.0
"""How long Kling may take to answer about a task that is archived."""
RECORD_SECONDS = 1.0
READ_BYTES_PER_SECOND = 2 * 1024 * 1024
"""Of a long list, on top: reading 500 rows takes a tenth of a second."""
REPLACED_BYTES_MAX = 32 * 1024 * 1024
IDS_MAX = 100
"""Kling takes 20."""

_IDS, _EXTERNAL_IDS = "task_ids", "external_task_ids"
_JSON = [(b"content-type", b"application/json")]
_log = log.get()


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
        calls: BlockingCalls,
        metrics: Metrics,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        record_seconds: float = RECORD_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`calls` does what the recorder does."""
        self._upstream = upstream
        self._recorder = recorder
        self._archived = archived
        self._calls = calls
        self._unlinked = {
            kind: metrics.gateway_unlinked_total.labels(kind=kind)
            for kind in (GatewayKind.QUERY, GatewayKind.LIST)
        }
        self._patience_seconds = patience_seconds
        self._record_seconds = record_seconds
        self._shared = SharedAnswers(monotonic=monotonic)

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
        wanted = _wanted(request)
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
        answer, recorded = await self._recorded(request, answer)
        if recorded is None:
            return answer
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
        found = await self._find(request, dataclasses.replace(wanted, names=tuple(missing)))
        if not found:
            return answer
        if recorded.is_success and is_collection and recorded.rows_place is not None:
            items = [task.as_json(_dialect(request)) for task in found]
            appended = append_items(recorded.body, recorded.rows_place, items)
            if appended != recorded.body:
                return dataclasses.replace(answer, body=appended, source=Source.MANIFEST)
        shows_others = is_collection and bool(said)
        if shows_others or not (recorded.is_success or _are_all(wanted.names, found)):
            return answer
        return _made_of(request, found)

    async def _from_archive(self, request: GatewayRequest, wanted: _Wanted) -> GatewayAnswer | None:
        """None unless every task that was asked for is archived: of the others only Kling can speak."""
        found = await self._find(request, wanted)
        return _made_of(request, found) if found and _are_all(wanted.names, found) else None

    async def _find(self, request: GatewayRequest, wanted: _Wanted) -> list[ArchivedTask]:
        names = wanted.names
        ids = [name for name in names if wanted.external is not True and TASK_ID.fullmatch(name)]
        found = await self._archived.find(
            account=request.client.account,
            task_ids=ids,
            external_task_ids=names if wanted.external is not False else (),
        )
        found = [task for task in found if _belongs(task, request)]
        if wanted.external is None:  # one task: an id goes before an external id
            found = sorted(found, key=lambda task: task.task_id != names[0])[:1]
        return sorted(found, key=lambda task: _position(names, task))

    # --- recording --------------------------------------------------------------------------------------

    async def _recorded(
        self, request: GatewayRequest, answer: GatewayAnswer
    ) -> tuple[GatewayAnswer, RecordedAnswer | None]:
        """The answer as the client may have it; without what was recorded where nothing could be."""
        if not isinstance(answer.body, bytes):
            self._unlinked[request.kind].inc()
            return answer, None
        if not 200 <= answer.status < 300:
            refused = self._recorder.refused(answer.body)
            return dataclasses.replace(answer, body=refused.body), refused
        recorded = await self._take(answer.body, _origin(request))
        if recorded is not None and recorded.at_own_paths and request.kind is GatewayKind.QUERY:
            await self._record_at_own_paths(request, recorded)
            recorded = await self._take(answer.body, _origin(request))
        if recorded is None or recorded.unlinked:
            self._unlinked[request.kind].inc()
        if recorded is None:
            return answer, None
        return dataclasses.replace(answer, body=recorded.body), recorded

    async def _take(self, body: bytes, origin: AnswerOrigin) -> RecordedAnswer | None:
        seconds = self._record_seconds + len(body) / READ_BYTES_PER_SECOND
        take = functools.partial(self._recorder.take, body, origin)
        try:
            return await self._calls.run(take, seconds=seconds)
        except TimeoutError:
            _log.warning("gateway.unrecorded", account=origin.account, cause="the ledger took too long")
        except Exception as error:  # noqa: BLE001 -- Kling has answered: whatever we cannot do with it, the client gets it
            _log.warning("gateway.unrecorded", account=origin.account, cause=str(error), exc_info=error)
        return None

    async def _record_at_own_paths(self, request: GatewayRequest, recorded: RecordedAnswer) -> None:
        """Tasks of `/v1/` families, shown by `/tasks` as succeeded, are recorded by what their own paths say."""
        await asyncio.gather(
            *(self._record_one(request, *found) for found in recorded.at_own_paths[:IDS_MAX])
        )

    async def _record_one(self, request: GatewayRequest, task_id: str, families: Sequence[str]) -> None:
        """At the path of the first of these families that knows it."""
        for family in families:
            question = _at_own_path(request, family, task_id)
            try:
                answer = await self._send(question, seconds=self._patience_seconds)
            except (NotReached, NoAnswer):
                return
            if not isinstance(answer.body, bytes):
                return
            recorded = await self._take(answer.body, _origin(question))
            if recorded is None or task_id in recorded.names:
                return

    async def _send(self, request: GatewayRequest, *, seconds: float = ANSWER_SECONDS) -> GatewayAnswer:
        return await self._upstream.send(
            request, answer_seconds=seconds, buffered_bytes_max=REPLACED_BYTES_MAX
        )


def _origin(request: GatewayRequest) -> AnswerOrigin:
    collection = request.path[1:].partition(b"/")[0].decode("latin-1") if request.family is None else None
    is_list = request.kind is GatewayKind.LIST
    return AnswerOrigin(request.client.account, request.family, collection, request.identifier, is_list)


def _at_own_path(request: GatewayRequest, family: str, task_id: str) -> GatewayRequest:
    path = f"/v1/{family}/{quote(task_id, safe='')}".encode("ascii")
    return dataclasses.replace(request, path=path, raw_query=b"", family=family, identifier=task_id)


def _wanted(request: GatewayRequest) -> _Wanted:
    if request.identifier is not None:
        return _Wanted((request.identifier,), None)
    parameters = dict(parse_qsl(request.raw_query.decode("latin-1")))
    external = _IDS not in parameters
    listed = parameters.get(_EXTERNAL_IDS if external else _IDS, "").split(",")[:IDS_MAX]
    return _Wanted(tuple(dict.fromkeys(filter(None, listed))), external)


def _belongs(task: ArchivedTask, request: GatewayRequest) -> bool:
    """Whether Kling would show it at this path. `/tasks` shows those of every family but solutions."""
    if request.family is not None:
        return task.family == request.family
    is_solution = collection_of(task.family) == SOLUTIONS
    return is_solution == (_origin(request).collection == SOLUTIONS)


def _are_all(names: Sequence[str], found: Sequence[ArchivedTask]) -> bool:
    return all(any(task.is_called(name) for task in found) for name in names)


def _position(names: Sequence[str], task: ArchivedTask) -> int:
    return next((number for number, name in enumerate(names) if task.is_called(name)), len(names))


def _dialect(request: GatewayRequest) -> Dialect | None:
    """Of the path; of solutions it is not known."""
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
