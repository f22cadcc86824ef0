"""Single queries and lists: Kling's answer, recorded and with links; or the archive's answer, where Kling has none.

1. Kling is asked first, and its answer counts. It is recorded before the client gets it (`recorder`), so the first
   `succeed` that a client sees has links. If the ledger cannot record it within a second, new tasks keep Kling's URLs,
   and the answer is counted (`recording`).
2. If Kling does not show a task that is archived, the answer comes from the bucket (`archive_answers`). If Kling has
   not answered after 3 s, the bucket is tried as well. If the bucket cannot be read, Kling's "not found" is withheld,
   because the client would believe it.
3. Equal queries of one client within a second share one answer. No answer is shared between clients.

The account's limiter does not apply: clients spend Kling's rate nearly as they would without the gateway
(`family_search`), and get Kling's 1302 themselves.
"""

import asyncio
import functools
import time
from collections.abc import Callable

from archiver.metrics import GatewayKind, Metrics
from receiver.gateway.blocking import BlockingCalls
from receiver.gateway.exchange import GatewayAnswer, GatewayRequest, NoAnswer, NotReached, Upstream
from receiver.gateway.queries.archive_answers import ArchiveAnswers, wanted_by
from receiver.gateway.queries.archived_tasks import ArchivedTasks
from receiver.gateway.queries.recorder import AnswerRecorder
from receiver.gateway.queries.recording import RECORD_SECONDS, TimedRecorder
from receiver.gateway.queries.sharing import SharedAnswers

ANSWER_SECONDS = 10.0
PATIENCE_SECONDS = 3.0
"""How long Kling may take to answer about a task that is archived."""
REPLACED_BYTES_MAX = 32 * 1024 * 1024


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
        self._patience_seconds = patience_seconds
        self._shared = SharedAnswers(monotonic=monotonic)
        self._recording = TimedRecorder(
            recorder,
            metrics,
            send=lambda question, seconds: self._send(question, seconds=seconds),
            reads=reads,
            writes=writes,
            record_seconds=record_seconds,
            monotonic=monotonic,
        )
        self._archive = ArchiveAnswers(archived, self._recording.read)

    async def handle(self, request: GatewayRequest) -> GatewayAnswer:
        """Raises NotReached, NoAnswer."""
        if request.kind is not GatewayKind.QUERY:
            answer, _ = await self._recording.recorded(request, await self._send(request))
            return answer
        client = request.client
        key = (client.account, client.authorization, request.path, request.raw_query)
        waited_before, began = request.waited.seconds, time.perf_counter()
        answer = await self._shared.get(key, functools.partial(self._query, request))
        if request.waited.seconds == waited_before:  # another request has asked
            request.waited.seconds += time.perf_counter() - began
        return answer

    async def _query(self, request: GatewayRequest) -> GatewayAnswer:
        wanted, began = wanted_by(request), time.monotonic()
        sending = asyncio.ensure_future(self._send(request))
        try:
            await asyncio.wait({sending}, timeout=self._patience_seconds)
            if not sending.done():
                whole = await self._archive.whole(request, wanted)
                if whole is not None:
                    return whole
            answer = await sending
        except (NotReached, NoAnswer):
            whole = await self._archive.whole(request, wanted)
            if whole is None:
                raise
            return whole
        finally:
            sending.cancel()
        left = began + self._patience_seconds - time.monotonic()
        answer, recorded = await self._recording.recorded(request, answer, own_path_seconds=left)
        if recorded is None:
            return answer
        if await self._recording.is_about_others(request, wanted.names, recorded):
            whole = await self._archive.whole(request, wanted)
            if whole is None:
                raise NoAnswer("the answer is about other tasks")
            return whole
        return await self._archive.completed(request, wanted, answer, recorded)

    async def _send(self, request: GatewayRequest, *, seconds: float = ANSWER_SECONDS) -> GatewayAnswer:
        return await self._upstream.send(
            request, answer_seconds=seconds, buffered_bytes_max=REPLACED_BYTES_MAX
        )
