"""The arrays of a task object that may hold results."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from archiver.families import OUTPUTS, ROLE_OF_ARRAY
from archiver.kling.results.urls import is_web
from archiver.model import Place


@dataclasses.dataclass(frozen=True, slots=True)
class ResultArray:
    """The rows of one array of a task object."""

    name: str
    rows: Sequence[object]
    places: Sequence[Place]
    """The place of each row in the task object."""


def result_arrays(document: Mapping[str, object]) -> Iterator[ResultArray]:
    """Everything below `task_result`, then `outputs`. Known arrays come first, others by name: file names must not
    depend on the server's order.

    One object in place of an array counts as its only row, as one page of the documentation has it. A known array may
    stand beside `task_result`, where solutions perhaps put it.
    """
    result = document.get("task_result")
    held: dict[str, tuple[object, Place]] = {"task_result": (result, ("task_result",))}
    if isinstance(result, dict):
        held = {name: (value, ("task_result", name)) for name, value in result.items()}
    for name in ROLE_OF_ARRAY:
        if document.get(name) and not held.get(name, (None,))[0]:
            held[name] = document[name], (name,)
    order = {name: place for place, name in enumerate(ROLE_OF_ARRAY)}
    for name in sorted(held, key=lambda name: (order.get(name, len(order)), name)):
        yield _array(name, *held[name])
    yield _array(OUTPUTS, document.get(OUTPUTS), (OUTPUTS,))


def _array(name: str, value: object, place: Place) -> ResultArray:
    if isinstance(value, list):
        return ResultArray(name, value, [(*place, number) for number in range(len(value))])
    return ResultArray(name, rows_of(name, value), [place])


def rows_of(name: str, value: object) -> list[object]:
    """The rows of a value where an array is expected; none if the value cannot be results."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return [value] if value else []
    # A string is no array, but as a field of `task_result` it may be a URL.
    return [value] if isinstance(value, str) and "url" in name.lower() and is_web(value) else []
