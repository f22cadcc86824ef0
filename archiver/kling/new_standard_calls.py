"""Asks `/tasks` and `/solutions` (API.md 5.3, 5.4): a batch of ids, or a window of time.

An unreadable row is not an unknown id. A cursor is opaque, and may stop working. A refused batch is asked again in
halves, so that one bad id does not cost nineteen others their answer.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from archiver.failures import ApiAnswerUnreadable, ApiBadParameter, ApiRequestInvalid, Failure
from archiver.kling import responses, results
from archiver.kling.client import KlingClient
from archiver.kling.limiter import Priority
from archiver.kling.new_standard import NewStandardTask

IDS_MAX = 20
WINDOW_ROWS = 500

Answers = dict[str, NewStandardTask | Failure]
"""Id → its task, or the failure to read its row. Ids that the API left out are missing."""


def ask_ids(
    client: KlingClient, collection: str, ids: Sequence[str], *, priority: Priority, external: bool = False
) -> Answers:
    """What `collection` knows of these ids (or external ids), in one call for every 20.

    Raises Failure: ApiBadParameter or ApiRequestInvalid where it took none of them, as a missing path may answer too.
    """
    found: Answers = {}
    for start in range(0, len(ids), IDS_MAX):
        batch = ids[start : start + IDS_MAX]
        found |= _ask_batch(client, collection, batch, priority=priority, external=external)
    return found


def _ask_batch(
    client: KlingClient, collection: str, ids: Sequence[str], *, priority: Priority, external: bool
) -> Answers:
    query = {"external_task_ids" if external else "task_ids": ",".join(ids)}
    try:
        rows = responses.rows_of(client.collection(collection, query=query, priority=priority))
    except (ApiBadParameter, ApiRequestInvalid):
        if len(ids) == 1:
            raise
        return _in_halves(client, collection, ids, priority=priority, external=external)
    return _by_id(rows, collection, wanted=set(ids), external=external)


def _in_halves(
    client: KlingClient, collection: str, ids: Sequence[str], *, priority: Priority, external: bool
) -> Answers:
    found: Answers = {}
    refused: list[Failure] = []
    middle = len(ids) // 2
    for half in (ids[:middle], ids[middle:]):
        try:
            found |= _ask_batch(client, collection, half, priority=priority, external=external)
        except (ApiBadParameter, ApiRequestInvalid) as error:
            refused.append(error)
    if len(refused) == 2:
        raise refused[0]
    return found


def _by_id(rows: Sequence[object], collection: str, *, wanted: set[str], external: bool) -> Answers:
    found: Answers = {}
    for row in rows:
        name = results.readable_external_id(row) if external else results.readable_id(row)
        if name not in wanted or isinstance(found.get(name), NewStandardTask):
            continue
        try:
            found[name] = _shown(row, collection)
        except ApiAnswerUnreadable as error:
            found[name] = error
    return found


def _shown(row: object, collection: str) -> NewStandardTask:
    document = responses.sound(row)
    if not isinstance(document, dict):
        raise ApiAnswerUnreadable("A task that is no JSON object.")
    return NewStandardTask(collection, document)


@dataclasses.dataclass(frozen=True, slots=True)
class WindowPage:
    """One page of a window, as far as it could be read."""

    shown: tuple[NewStandardTask, ...]
    rows: int
    """How many rows the API sent."""
    reasons: tuple[str, ...]
    """One sentence for each unreadable row."""
    next_cursor: str
    has_more: bool
    """As the API says; where it says nothing, whether it gives a cursor."""


def ask_window(
    client: KlingClient,
    collection: str,
    *,
    start: int,
    end: int,
    cursor: str,
    priority: Priority,
    rows_max: int = WINDOW_ROWS,
) -> WindowPage:
    """A page of what changed from `start` to `end` (Unix ms), or was created then: API.md 5.3. Raises Failure."""
    body: dict[str, object] = {"start_time": str(start), "end_time": str(end), "limit": rows_max}
    if cursor:
        body["cursor"] = cursor
    answer = client.collection(collection, body=body, priority=priority)
    rows = responses.rows_of(answer)
    shown, reasons = [], []
    for row in rows:
        try:
            shown.append(_shown(row, collection))
        except ApiAnswerUnreadable as error:
            reasons.append(str(error))
    data: Mapping[str, object] = answer.data if isinstance(answer.data, dict) else {}
    cursor_behind = data.get("next_cursor")
    next_cursor = cursor_behind if isinstance(cursor_behind, str) else ""
    more = data.get("has_more")
    has_more = more if isinstance(more, bool) else bool(next_cursor)
    return WindowPage(tuple(shown), len(rows), tuple(reasons), next_cursor, has_more)
