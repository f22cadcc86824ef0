"""Converts a task object from one dialect of the API to the other (API.md 1.3, 1.4). No I/O.

A conversion keeps every result, and every field that both dialects know or neither knows. What only one dialect can
express is lost, as at `/tasks` itself (API.md 5.3): for example, that images are a series.
"""

import copy
import enum
from collections.abc import Iterator, Mapping
from typing import Any

from archiver.families import OUTPUTS, PLACES, ROLE_OF_ARRAY, ROLE_OF_OUTPUT_TYPE, TASKS, collection_of
from archiver.kling.results import result_arrays
from archiver.model import Place, Role


class Dialect(enum.StrEnum):
    """One of the two formats in which the API writes a task."""

    LEGACY = "legacy"
    NEW_STANDARD = "new_standard"


Document = Mapping[str, Any]

_NAMES = {
    "task_id": "id",
    "task_status": "status",
    "task_status_msg": "message",
    "created_at": "create_time",
    "updated_at": "update_time",
}
"""Legacy → new standard; other fields are called the same in both."""
_LEGACY_NAMES = {new: legacy for legacy, new in _NAMES.items()}
_SUCCESS = {Dialect.LEGACY: "succeed", Dialect.NEW_STANDARD: "succeeded"}
_AUDIO_FIELDS = {"url_mp3": "mp3_url", "url_wav": "wav_url"}
_LEGACY_AUDIO_FIELDS = {new: legacy for legacy, new in _AUDIO_FIELDS.items()}
_NUMBERED = ("url_", "watermark_url_")


def dialect_of(document: Document) -> Dialect:
    """`task_id` tells the dialects apart."""
    return Dialect.LEGACY if "task_id" in document else Dialect.NEW_STANDARD


def dialect_of_family(family: str) -> Dialect | None:
    """The dialect of the family's callbacks and queries; None for solutions, whose dialect is not documented."""
    collection = collection_of(family)
    if collection is None:
        return Dialect.LEGACY
    return Dialect.NEW_STANDARD if collection == TASKS else None


def in_dialect(document: Document, dialect: Dialect | None, *, is_series: bool = False) -> Document:
    """The task in this dialect; unchanged if it is in this dialect already, or if `dialect` is None. `is_series`: its
    images are a series."""
    if dialect is None or dialect is dialect_of(document):
        return document
    if dialect is Dialect.NEW_STANDARD:
        return _in_new_standard(document)
    return _in_legacy(document, images=Role.SERIES_IMAGE if is_series else Role.IMAGE)


def with_strings(document: Document, strings: Mapping[Place, str]) -> Document:
    """A copy with the strings at these places replaced. The places must exist; unchanged parts are shared. No
    recursion: the API chooses the depth."""
    changed: dict[str, Any] = dict(document)
    copied: dict[Place, Any] = {(): changed}
    for place, string in strings.items():
        for depth in range(1, len(place)):
            if place[:depth] not in copied:
                holder, step = copied[place[: depth - 1]], place[depth - 1]
                holder[step] = copied[place[:depth]] = copy.copy(holder[step])
        copied[place[:-1]][place[-1]] = string
    return changed


def _in_new_standard(document: Document) -> Document:
    info = document.get("task_info")
    external_id = info.get("external_task_id") if isinstance(info, dict) else None
    left_out = {"task_info", "task_result", *ROLE_OF_ARRAY}
    return {
        **_renamed({name: value for name, value in document.items() if name not in left_out}, _NAMES),
        **_status(document.get("task_status"), "status", Dialect.NEW_STANDARD),
        **({"external_id": external_id} if external_id else {}),
        OUTPUTS: [output for name, row in _rows(document) for output in _outputs(name, row)],
    }


def _rows(document: Document) -> Iterator[tuple[str, object]]:
    for array in result_arrays(document):
        for row in array.rows:
            yield array.name, row


def _outputs(array: str, row: object) -> Iterator[dict[str, object]]:
    """One row of `outputs`, or one for each of `url_1`, `url_2`, …"""
    role = ROLE_OF_ARRAY.get(array)
    kind: dict[str, object] = {"type": PLACES[role].output_type if role is not None else array}
    if array == OUTPUTS:
        kind = {}
    if not isinstance(row, dict):
        yield kind | {"url": row}
        return
    numbers = [name.removeprefix("url_") for name in row if name.removeprefix("url_").isdigit()]
    if not numbers:
        names = _AUDIO_FIELDS | ({"trial_url": "url"} if role is Role.VOICE and "url" not in row else {})
        yield kind | _renamed(row, names)
    for number in numbers:
        urls = {prefix.rstrip("_"): row[prefix + number] for prefix in _NUMBERED if prefix + number in row}
        others = {name: value for name, value in row.items() if not name.startswith(_NUMBERED)}
        yield kind | others | urls


def _in_legacy(document: Document, *, images: Role) -> Document:
    external_id = document.get("external_id") or document.get("external_task_id")
    left_out = {OUTPUTS, "external_id", "external_task_id"}
    result: dict[str, list[object]] = {}
    for name, row in _rows(document):
        array, shown = _array_row(name, row, images=images)
        result.setdefault(array, []).append(shown)
    for array in {PLACES[Role.IMAGE].array, PLACES[Role.SERIES_IMAGE].array} & result.keys():
        result[array] = [_numbered(number, row) for number, row in enumerate(result[array])]
    return {
        **_renamed({name: value for name, value in document.items() if name not in left_out}, _LEGACY_NAMES),
        **_status(document.get("status"), "task_status", Dialect.LEGACY),
        "task_info": {"external_task_id": external_id} if external_id else {},
        "task_result": result,
    }


def _array_row(name: str, row: object, *, images: Role) -> tuple[str, object]:
    """The legacy array of a row of `outputs`, and the row in it."""
    if name != OUTPUTS or not isinstance(row, dict):
        return name, row
    kind = row.get("type")
    role = ROLE_OF_OUTPUT_TYPE.get(kind, Role.OTHER) if isinstance(kind, str) else Role.OTHER
    if role is Role.OTHER:
        return name, row
    names = _LEGACY_AUDIO_FIELDS | ({"url": "trial_url"} if role is Role.VOICE else {})
    shown = _renamed({field: value for field, value in row.items() if field != "type"}, names)
    return PLACES[images if role is Role.IMAGE else role].array, shown


def _numbered(number: int, row: object) -> object:
    return {"index": number} | row if isinstance(row, dict) else row


def _renamed(fields: Document, names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in fields.items()}


def _status(word: object, name: str, dialect: Dialect) -> dict[str, object]:
    if word is None:
        return {}
    return {name: _SUCCESS[dialect] if word in _SUCCESS.values() else word}
