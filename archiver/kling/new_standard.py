"""What `/tasks` and `/solutions` show, and which family it belongs to. No I/O.

`/tasks` names no family, and its product types cannot be trusted, so a task's kind is read from what it has made: the
type of its outputs. While it has made nothing its kind is not known, and no rule here takes that for a no: too much in
the bucket is a nuisance, too little is lost.

What virtual try-on makes are images, and nothing in an answer of `/tasks` tells them from others: whoever covers
`tasks/try_on` covers images.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from archiver.families import (
    FAMILIES,
    OUTPUT_TYPES,
    OUTPUTS,
    SOLUTIONS,
    collection_of,
    families_fitting,
)

OTHER = "other"
"""The kind of an output whose type this version does not know."""

_KIND_OF_ARRAY = {
    "images": "image",
    "series_images": "image",
    "videos": "video",
    "audios": "audio",
    "voices": "voice",
    "elements": "element",
}
_KINDS_OF_TASKS = {"tasks/image": "image", "tasks/video": "video", "tasks/try_on": "image"}
_KINDS_OF_AREA = {"images": "image", "videos": "video", "audio": "audio"}
_RARE = frozenset({"audio", "voice", "element"})
"""Kinds that one or two families make, none of them of the new standard."""


@dataclasses.dataclass(frozen=True, slots=True)
class NewStandardTask:
    """A task as `/tasks` or `/solutions` shows it."""

    collection: str
    document: Mapping[str, object]
    """The API's own object, fit to be stored."""


def kinds_of(document: Mapping[str, object]) -> frozenset[str]:
    """What the task has made (`image`, `video`, …, `other`), as far as its outputs tell; empty while it has none."""
    outputs = document.get(OUTPUTS)
    rows = outputs if isinstance(outputs, list) else []
    kinds = {_kind(row) for row in rows}
    result = document.get("task_result")
    for holder in (document, result if isinstance(result, dict) else {}):
        kinds |= {kind for array, kind in _KIND_OF_ARRAY.items() if holder.get(array)}
    return frozenset(kinds)


def _kind(row: object) -> str:
    kind = row.get("type") if isinstance(row, dict) else None
    return kind if isinstance(kind, str) and kind in OUTPUT_TYPES else OTHER


def kinds_of_family(family: str) -> frozenset[str] | None:
    """The kinds that tasks of `family` may make; None where this version cannot tell. A solution is none of what
    `/tasks` is asked for."""
    if collection_of(family) is not None:
        return frozenset({_KINDS_OF_TASKS[family]}) if family in _KINDS_OF_TASKS else frozenset()
    if family in FAMILIES:
        return frozenset(_KIND_OF_ARRAY[array] for array in FAMILIES[family])
    area = _KINDS_OF_AREA.get(family.partition("/")[0])
    return None if area is None else frozenset({area})


def covers(families: Sequence[str], kinds: frozenset[str]) -> bool:
    """Whether what `/tasks` shows of these kinds is to be archived where only these families are configured."""
    if not kinds or OTHER in kinds:
        return True
    covered = [kinds_of_family(family) for family in families]
    return any(one is not None and one & kinds for one in covered)


def own_paths(hint: str | None, families: Sequence[str], kinds: frozenset[str]) -> list[str]:
    """The families below `/v1/` whose paths are to be asked for a task of these kinds that `/tasks` knows: the hint,
    then the configured ones that can have made it. A hint at `/tasks` itself is answered already."""
    if collection_of(hint) is not None:
        return []
    arrays = [array for array, kind in _KIND_OF_ARRAY.items() if kind in kinds]
    fitting = families_fitting(arrays, families)
    if kinds and kinds <= _RARE:
        fitting += [family for family in FAMILIES if family not in fitting]
    found = [family for family in fitting if collection_of(family) is None and _may_make(family, kinds)]
    return list(dict.fromkeys([hint, *found] if hint is not None else found))


def _may_make(family: str, kinds: frozenset[str]) -> bool:
    made = kinds_of_family(family)
    return not kinds or OTHER in kinds or made is None or bool(made & kinds)


def settled_family(shown: NewStandardTask, preferred: Sequence[str | None]) -> str:
    """The family of a task that only its collection knows: the first preferred one that fits, else what it has made.

    A task that has made nothing yet is taken for a video, which is all that the new standard's own paths make; see
    `is_provisional`.
    """
    collection, kinds = shown.collection, kinds_of(shown.document)
    for family in preferred:
        if family is not None and collection_of(family) == collection and _fits(family, kinds):
            return family
    if collection == SOLUTIONS:
        return "solutions/virtual_try_on"
    if not kinds or "video" in kinds:
        return "tasks/video"
    return "tasks/image" if "image" in kinds else f"tasks/{min(kinds)}"


def _fits(family: str, kinds: frozenset[str]) -> bool:
    if collection_of(family) == SOLUTIONS or not kinds:
        return True
    kind = _KINDS_OF_TASKS.get(family, family.partition("/")[2])
    return kind in kinds
