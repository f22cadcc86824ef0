"""Records Kling's answers within a time limit: if the ledger hangs, the client gets Kling's answer all the same."""

import dataclasses
import functools
import time
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from archiver import log
from archiver.metrics import GatewayKind, Metrics
from receiver.gateway.blocking import BlockingCalls
from receiver.gateway.exchange import GatewayAnswer, GatewayRequest, NoAnswer
from receiver.gateway.queries.absence import JUDGED_BYTES_MAX
from receiver.gateway.queries.answers import RecordedAnswer, UnrecordedAnswer, origin_of
from receiver.gateway.queries.family_search import FamilySearch
from receiver.gateway.queries.other_tasks import is_about_others, question_of
from receiver.gateway.queries.recorder import AnswerRecorder

RECORD_SECONDS = 1.0
READ_BYTES_PER_SECOND = 2 * 1024 * 1024
"""Extra time for a long list, by its bytes: reading 500 rows takes a tenth of a second."""
SEARCHED_MAX = 100
"""Tasks of one answer that are looked for at their own paths. Kling takes 20 in a question."""

_log = log.get()
_Result = TypeVar("_Result")


class TimedRecorder:
    """Records answers in threads. For one event loop."""

    def __init__(
        self,
        recorder: AnswerRecorder,
        metrics: Metrics,
        *,
        send: Callable[[GatewayRequest, float], Awaitable[GatewayAnswer]],
        reads: BlockingCalls,
        writes: BlockingCalls,
        record_seconds: float = RECORD_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`send` asks Kling, see `FamilySearch`. `reads` and `writes` do what `recorder` does."""
        self._recorder = recorder
        self._reads = reads
        self._writes = writes
        self._unlinked = {
            kind: metrics.gateway_unlinked_total.labels(kind=kind)
            for kind in (GatewayKind.QUERY, GatewayKind.LIST)
        }
        self._record_seconds = record_seconds
        self._family_search = FamilySearch(send, self._take, monotonic=monotonic)

    async def recorded(
        self, request: GatewayRequest, answer: GatewayAnswer, *, own_path_seconds: float = 0.0
    ) -> tuple[GatewayAnswer, RecordedAnswer | None]:
        """The answer as the client may have it, and what it says of tasks, unless it is too long to be looked at."""
        if not isinstance(answer.body, bytes):
            self._unlinked[request.kind].inc()
            return answer, None
        if not 200 <= answer.status < 300:
            refused = await self.read(
                functools.partial(self._recorder.refused, answer.body), request, answer.body
            )
            if refused is None:
                raise NoAnswer("a long refusal could not be read in time")
            return dataclasses.replace(answer, body=refused.body), refused
        recorded = await self._take(request, answer)
        if recorded is not None and recorded.at_own_paths and own_path_seconds > 0:
            wanted = recorded.at_own_paths[:SEARCHED_MAX]
            if await self._family_search.record(request, wanted, seconds=own_path_seconds):
                recorded = await self._take(request, answer) or recorded
        if recorded is None and request.kind is GatewayKind.QUERY and len(answer.body) <= JUDGED_BYTES_MAX:
            recorded = self._recorder.unread(answer.body, origin_of(request))
        if recorded is None or recorded.unlinked or not recorded.is_recorded:
            self._unlinked[request.kind].inc()
        if recorded is None:
            return answer, None
        return dataclasses.replace(answer, body=recorded.body), recorded

    async def is_about_others(
        self, request: GatewayRequest, names: Collection[str], recorded: RecordedAnswer
    ) -> bool:
        """Whether a success shows other tasks than those that the query names. In doubt it does not."""
        if not recorded.is_success or not recorded.shown.isdisjoint(names):
            return False
        question = question_of(request)
        if question is None:
            return False
        body, knows = recorded.body, functools.partial(self._recorder.knows, request.client.account)
        judge = functools.partial(is_about_others, body, question, is_task_id=knows)
        return await self._tried(self._reads, judge, request, self._seconds_for(body)) or False

    async def read(self, call: Callable[[], _Result], request: GatewayRequest, body: bytes) -> _Result | None:
        """What reads a body only: a long one in a thread, while the event loop goes on. None where that fails."""
        if len(body) <= JUDGED_BYTES_MAX:
            return call()
        return await self._tried(self._reads, call, request, self._seconds_for(body))

    async def _take(self, request: GatewayRequest, answer: GatewayAnswer) -> RecordedAnswer | None:
        """None where the ledger cannot be read in time."""
        if not isinstance(answer.body, bytes):
            return None
        seconds = self._seconds_for(answer.body)
        began = time.monotonic()
        read = functools.partial(self._recorder.read, answer.body, origin_of(request))
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
        except Exception as error:  # noqa: BLE001 -- the client gets Kling's answer, recorded or not
            _log.warning("gateway.unrecorded", account=account, cause=str(error), exc_info=error)
        return None
