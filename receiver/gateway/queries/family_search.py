"""Queries families' paths for succeeded tasks that only `/tasks` has shown, so that the first answer has links.

It spends the rate of the account's own verification, which finds these families too. So it sends few requests for each
answer, stops at the first that Kling refuses, and does not search for a task again at each poll.
"""

import asyncio
import collections
import dataclasses
import time
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import quote

from receiver.gateway.exchange import GatewayAnswer, GatewayRequest, NoAnswer, NotReached
from receiver.gateway.queries.absence import is_not_found
from receiver.gateway.queries.answers import RecordedAnswer

REQUESTS_MAX = 24
"""For one answer: all families of one task, or the 20 tasks that Kling takes, of one family."""
AT_ONCE = 4
AGAIN_SECONDS = 60.0
REMEMBERED_MAX = 4096


class FamilySearch:
    """Searches families. For one event loop."""

    def __init__(
        self,
        send: Callable[[GatewayRequest, float], Awaitable[GatewayAnswer]],
        record: Callable[[GatewayRequest, GatewayAnswer], Awaitable[RecordedAnswer | None]],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`send` takes the seconds that an answer may take, and raises NotReached, NoAnswer; `record` gives None where
        the ledger cannot be read."""
        self._send = send
        self._record = record
        self._monotonic = monotonic
        self._families: dict[str, list[str]] = {}
        """Account → those that knew a task, the last one first."""
        self._searched: collections.OrderedDict[tuple[str, str], float] = collections.OrderedDict()

    async def record(
        self, request: GatewayRequest, wanted: Sequence[tuple[str, Sequence[str]]], *, seconds: float
    ) -> bool:
        """Record tasks, given as (id, families one of which may have made it), by what their own paths say. Returns
        whether Kling was asked. Takes at most `seconds`."""
        account = request.client.account
        fresh = [
            (task_id, families) for task_id, families in wanted if not self._was_searched(account, task_id)
        ]
        families = self._families.setdefault(account, [])
        search = _Search(request, self._send, self._record, seconds, families)
        try:
            async with asyncio.timeout(seconds):
                # The others are likely to be of the first one's family.
                for start, end in ((0, 1), *((at, at + AT_ONCE) for at in range(1, len(fresh), AT_ONCE))):
                    await asyncio.gather(*(search.find(*found) for found in fresh[start:end]))
        except TimeoutError:
            pass
        for task_id in search.ended:
            self._remember(account, task_id)
        return search.requests > 0

    def _was_searched(self, account: str, task_id: str) -> bool:
        at = self._searched.get((account, task_id))
        return at is not None and self._monotonic() - at < AGAIN_SECONDS

    def _remember(self, account: str, task_id: str) -> None:
        self._searched[account, task_id] = self._monotonic()
        self._searched.move_to_end((account, task_id))
        if len(self._searched) > REMEMBERED_MAX:
            self._searched.popitem(last=False)


@dataclasses.dataclass(slots=True)
class _Search:
    """The search for the tasks of one answer."""

    request: GatewayRequest
    send: Callable[[GatewayRequest, float], Awaitable[GatewayAnswer]]
    record: Callable[[GatewayRequest, GatewayAnswer], Awaitable[RecordedAnswer | None]]
    seconds: float
    families: list[str]
    """Families that knew a task, the latest first; grows."""
    requests: int = 0
    is_over: bool = False
    ended: list[str] = dataclasses.field(default_factory=list)
    """The tasks for which no family is left to ask."""

    async def find(self, task_id: str, families: Sequence[str]) -> None:
        """At the path of the first of these families that knows it."""
        left = list(families)
        while left and not self.is_over:
            family = next((family for family in self.families if family in left), left[0])
            left.remove(family)
            if await self._is_known(task_id, family):
                self.families[:] = [family, *(known for known in self.families if known != family)]
                left = []
        if not left:
            self.ended.append(task_id)

    async def _is_known(self, task_id: str, family: str) -> bool:
        if self.requests >= REQUESTS_MAX:
            self.is_over = True
            return False
        self.requests += 1
        question = _at_own_path(self.request, family, task_id)
        try:
            answer = await self.send(question, self.seconds)
        except (NotReached, NoAnswer):
            self.is_over = True
            return False
        recorded = await self.record(question, answer)
        if recorded is None or not (recorded.is_success or is_not_found(answer)):
            self.is_over = True
            return False
        return task_id in recorded.names


def _at_own_path(request: GatewayRequest, family: str, task_id: str) -> GatewayRequest:
    path = f"/v1/{family}/{quote(task_id, safe='')}".encode("ascii")
    return dataclasses.replace(request, path=path, raw_query=b"", family=family, identifier=task_id)
