"""Answers a query from the archive: as a whole, or the tasks that Kling's answer lacks."""

import dataclasses
import functools
import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import parse_qsl

from archiver.families import SOLUTIONS, collection_of
from archiver.kling.dialects import Dialect
from archiver.kling.places import append_items
from archiver.model import TASK_ID
from receiver.gateway.exchange import GatewayAnswer, GatewayRequest, Source, refusal
from receiver.gateway.queries.absence import is_not_found
from receiver.gateway.queries.answers import RecordedAnswer, origin_of
from receiver.gateway.queries.archived_tasks import ArchivedTask, ArchivedTasks, ArchiveUnread

IDS_MAX = 100
"""Kling takes 20."""

_IDS, _EXTERNAL_IDS = "task_ids", "external_task_ids"
_JSON = [(b"content-type", b"application/json")]


@dataclasses.dataclass(frozen=True, slots=True)
class WantedTasks:
    """The tasks that a single query names."""

    names: tuple[str, ...]
    external: bool | None
    """Whether by external ids; None below `/v1/`, where the name may be either."""


def wanted_by(request: GatewayRequest) -> WantedTasks:
    if request.identifier is not None:
        return WantedTasks((request.identifier,), None)
    parameters = dict(parse_qsl(request.raw_query.decode("latin-1")))
    external = _IDS not in parameters
    listed = parameters.get(_EXTERNAL_IDS if external else _IDS, "").split(",")[:IDS_MAX]
    return WantedTasks(tuple(dict.fromkeys(filter(None, listed))), external)


class ArchiveAnswers:
    """Answers of the archive. For one event loop."""

    def __init__(
        self,
        archived: ArchivedTasks,
        read: Callable[[Callable[[], bytes], GatewayRequest, bytes], Awaitable[bytes | None]],
    ) -> None:
        """`read` calls what reads a body of this length; None where that fails."""
        self._archived = archived
        self._read = read

    async def whole(self, request: GatewayRequest, wanted: WantedTasks) -> GatewayAnswer | None:
        """None unless every task that was asked for is archived: of the others only Kling can speak."""
        try:
            found = await self._find(request, wanted)
        except ArchiveUnread:
            return None
        return _made_of(request, found) if found and _are_all(wanted.names, found) else None

    async def completed(
        self, request: GatewayRequest, wanted: WantedTasks, answer: GatewayAnswer, recorded: RecordedAnswer
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

    async def _find(self, request: GatewayRequest, wanted: WantedTasks) -> list[ArchivedTask]:
        names = wanted.names
        ids = [name for name in names if wanted.external is not True and TASK_ID.fullmatch(name)]
        found = await self._archived.find(
            account=request.client.account,
            task_ids=ids,
            external_task_ids=names if wanted.external is not False else (),
            belongs=functools.partial(_belongs, request),
        )
        return sorted(found, key=lambda task: _position(names, task))


def _belongs(request: GatewayRequest, family: str) -> bool:
    """Whether Kling would show a task of this family at this path. `/tasks` shows all families except solutions."""
    if request.family is not None:
        return family == request.family
    is_solution = collection_of(family) == SOLUTIONS
    return is_solution == (origin_of(request).collection == SOLUTIONS)


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
    return None if origin_of(request).collection == SOLUTIONS else Dialect.NEW_STANDARD


def _made_of(request: GatewayRequest, found: Sequence[ArchivedTask]) -> GatewayAnswer:
    """Kling's envelope around what the archive has."""
    rows = b",".join(task.as_json(_dialect(request)) for task in found)
    data = rows if request.family is not None else b"[%b]" % rows
    said = json.dumps(
        {"code": 0, "message": "SUCCEED", "request_id": str(uuid.uuid4())}, separators=(",", ":")
    )
    body = b'%b,"data":%b}' % (said[:-1].encode("ascii"), data)
    return GatewayAnswer(200, _JSON, body, Source.MANIFEST)
