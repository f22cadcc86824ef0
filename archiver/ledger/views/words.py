"""Finds a text in what people know of a task: its external id, what was asked for, its message. Case does not count.

SQL picks the rows that may have it: its LIKE knows no case of letters beyond ASCII, and sees the names and escapes of
JSON. Which rows have it is judged here.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from archiver.ledger.tables import schema

_ESCAPE = "!"
"""Before a character that means something to LIKE: a backslash is one of JSON's."""
_SPECIAL = frozenset("%_" + _ESCAPE)


class Words:
    """A text to be found."""

    def __init__(self, text: str) -> None:
        self._lower = text.lower()
        self._in_text = f"%{''.join(_like(character) for character in text)}%"
        self._in_json = f"%{''.join(_like_json(character) for character in text)}%"

    def may_be_in_row(self) -> sa.ColumnElement[bool]:
        """True for each row that has it, and for few others."""
        columns = schema.tasks.c
        return sa.or_(
            columns.request.ilike(self._in_json, escape=_ESCAPE),
            columns.external_task_id.ilike(self._in_text, escape=_ESCAPE),
            columns.message.ilike(self._in_text, escape=_ESCAPE),
        )

    def are_in(self, row: Mapping[Any, Any]) -> bool:
        """Whether this row has it; one with a long request, as far as SQL can tell."""
        if row["is_request_long"]:
            return True
        asked_for = json.loads(row["request"]) if row["request"] else None
        texts = (row["external_task_id"] or "", row["message"] or "", *_texts(asked_for))
        return any(self._lower in text.lower() for text in texts)


def _like(character: str) -> str:
    if _has_other_case(character):
        return "_"
    return _ESCAPE + character if character in _SPECIAL else character


def _like_json(character: str) -> str:
    """In JSON of ASCII characters only, as the ledger keeps it."""
    written = json.dumps(character)[1:-1]
    if _has_other_case(character):
        return "\\u____" * written.count("\\u")
    return "".join(map(_like, written))


def _has_other_case(character: str) -> bool:
    """That LIKE may not know of."""
    return not character.isascii() and character.lower() != character.upper()


def _texts(value: object) -> Iterator[str]:
    """Every text in a JSON value, without the names of fields."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, dict):
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found
