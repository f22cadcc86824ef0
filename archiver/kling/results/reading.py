"""One task object → a `Task`: its id, status, times and message, and the assets that its rows name."""

import re
from collections.abc import Mapping, Sequence

from archiver import model
from archiver.failures import ApiAnswerUnreadable
from archiver.families import OUTPUTS, PLACES, ROLE_OF_ARRAY, ROLE_OF_OUTPUT_TYPE
from archiver.kling.results.arrays import result_arrays
from archiver.kling.results.names import safe
from archiver.kling.results.stems import Draft, draft_of, with_unique_stems
from archiver.kling.results.unknown_fields import reported, scalars_of, unfetched_links, unknown_in_row
from archiver.kling.results.urls import urls_of
from archiver.model import Role, Status, Task

INDEX_MAX = 999_999
"""A larger index is ignored: it would make absurd file names."""


def read_task(document: object, *, family: str) -> Task:
    """Read a task object of either standard, which goes into the `Task` unchanged.

    A row without a URL adds no asset; it is reported once the task has succeeded. Raises `ApiAnswerUnreadable` without
    a usable id or a known status.
    """
    if not isinstance(document, dict):
        raise ApiAnswerUnreadable(f"A task that is no JSON object but {_kind(document)}.")
    try:
        return _read_task(document, family=family)
    except ApiAnswerUnreadable as error:
        error.shown = unread_task(document, family=family, why=str(error))
        raise


def unread_task(document: Mapping[str, object], *, family: str, why: str) -> Task | None:
    """The task of a row that cannot be read; None without its id or its creation time."""
    task_id = readable_id(document)
    created_at = model.api_time(_first(document, "created_at", "create_time"))
    if task_id is None or created_at is None:
        return None
    return Task(
        task_id=task_id,
        family=family,
        status=Status.RUNNING,
        message=why,
        created_at=created_at,
        updated_at=model.api_time(_first(document, "updated_at", "update_time")),
        external_task_id=_external_id(document),
        assets=(),
        document=document,
        is_unread=True,
    )


def _read_task(document: Mapping[str, object], *, family: str) -> Task:
    status = _status(_first(document, "task_status", "status"))
    task_id = _task_id(document)
    drafts, unknown = _scan(document)
    return Task(
        task_id=task_id,
        family=family,
        status=status,
        message=_message(document) if status is Status.FAILED else "",
        created_at=model.api_time(_first(document, "created_at", "create_time")),
        updated_at=model.api_time(_first(document, "updated_at", "update_time")),
        external_task_id=_external_id(document),
        assets=with_unique_stems(drafts),
        document=document,
        unknown_fields=reported(unknown, status=status),
    )


def readable_id(document: object) -> str | None:
    """The id of a row, malformed or not."""
    try:
        return _task_id(document) if isinstance(document, dict) else None
    except ApiAnswerUnreadable:
        return None


def readable_external_id(document: object) -> str | None:
    """The external id of a row, malformed or not."""
    return _external_id(document) if isinstance(document, dict) else None


def _first(document: Mapping[str, object], *names: str) -> object:
    """The first of these fields with a value: the two standards spell them differently."""
    return next((document[name] for name in names if document.get(name) not in (None, "")), None)


def _status(word: object) -> Status:
    status = model.STATUS_WORDS.get(word.strip().lower()) if isinstance(word, str) else None
    if status is None:
        shown = repr(safe(word)) if isinstance(word, str) else _kind(word)
        raise ApiAnswerUnreadable(f"A task whose status is none that this version knows: {shown}.")
    return status


def _task_id(document: Mapping[str, object]) -> str:
    text = _identifier(_first(document, "task_id", "id"))
    if text is None or model.TASK_ID.fullmatch(text) is None:
        raise ApiAnswerUnreadable("A task without an id of 1 to 128 safe characters.")
    return text


def _identifier(value: object) -> str | None:
    """Ids are strings; a gateway may write one as a whole number."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**128:
        return str(value)
    return None


def _external_id(document: Mapping[str, object]) -> str | None:
    info = document.get("task_info")
    of_legacy = info.get("external_task_id") if isinstance(info, dict) else None
    value = of_legacy or _first(document, "external_id", "external_task_id")
    return model.text(_identifier(value)) or None


def _message(document: Mapping[str, object]) -> str:
    return model.text(_first(document, "task_status_msg", "message"))


def _kind(value: object) -> str:
    """The JSON type; messages never repeat the value."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _scan(document: Mapping[str, object]) -> tuple[list[Draft], set[str]]:
    drafts: list[Draft] = []
    unknown: set[str] = set()
    for array in result_arrays(document):
        name = array.name
        number_is_name = not _indexes_name_rows(array.rows)
        for number, row in enumerate(array.rows):
            role = _role(name, row)
            index = _index(row)
            base = f"{_prefix(name, role)}{number if number_is_name else index}"
            found = urls_of(row)
            drafts += [draft_of(base, url, role=role, index=index, row=array.places[number]) for url in found]
            unknown |= unknown_in_row(name, number, found=found, role=role)
            unknown |= unfetched_links(name, row, found=found)
    unknown |= unfetched_links("task_result", scalars_of(document.get("task_result")), found=())
    return drafts, unknown


def _role(name: str, row: object) -> Role:
    kind = row.get("type") if name == OUTPUTS and isinstance(row, dict) else None
    known = ROLE_OF_OUTPUT_TYPE.get(kind) if isinstance(kind, str) else ROLE_OF_ARRAY.get(name)
    return known or Role.OTHER


def _prefix(name: str, role: Role) -> str:
    return PLACES[role].stem_prefix if role in PLACES else f"{safe(name)}-"


def _index(row: object) -> int | None:
    """The API's own index: a natural number, perhaps as a string of digits."""
    value = row.get("index") if isinstance(row, dict) else None
    if isinstance(value, str) and re.fullmatch(r"0|[1-9][0-9]{0,5}", value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= INDEX_MAX:
        return value
    return None


def _indexes_name_rows(rows: Sequence[object]) -> bool:
    indexes = [_index(row) for row in rows]
    return None not in indexes and len(set(indexes)) == len(indexes)
