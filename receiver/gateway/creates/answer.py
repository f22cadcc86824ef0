"""Reads Kling's answer to a create. No I/O."""

import dataclasses
import enum
import re

from archiver.failures import Failure
from archiver.kling import responses
from archiver.kling.client import CREATED_NOTHING
from archiver.model import TASK_ID

_OUR_FIELD = re.compile(r"callback[ _-]?url", re.IGNORECASE)
_REFUSES_FIELD = frozenset({1200, 1201})


class AnswerMeaning(enum.Enum):
    CREATED = enum.auto()
    REFUSED = enum.auto()
    """Nothing was created."""
    ERROR = enum.auto()
    """Kling reports an error of its own. It does not say whether it has created a task; it hardly ever has."""
    UNKNOWN = enum.auto()


@dataclasses.dataclass(frozen=True, slots=True)
class CreateVerdict:
    meaning: AnswerMeaning
    task_id: str | None = None
    """The id of the created task."""
    names_our_field: bool = False
    """Refused for its callback URL, so without it the create may be sent again."""


def judge(status: int, body: bytes) -> CreateVerdict:
    """Takes any answer. A success that names no task is UNKNOWN."""
    try:
        answer = responses.read_answer(body)
        if answer.code == 0:
            return _created(responses.rows_of(answer))
    except Failure:
        return CreateVerdict(AnswerMeaning.UNKNOWN)
    failure = responses.failure(status=status, code=answer.code, message=answer.message, family=None)
    if not isinstance(failure, CREATED_NOTHING):
        return CreateVerdict(AnswerMeaning.ERROR)
    names_our_field = status == 400 and answer.code in _REFUSES_FIELD
    return CreateVerdict(
        AnswerMeaning.REFUSED,
        names_our_field=names_our_field and _OUR_FIELD.search(answer.message) is not None,
    )


def _created(rows: list[object]) -> CreateVerdict:
    row = rows[0] if rows and isinstance(rows[0], dict) else {}
    for name in ("task_id", "id"):
        value = row.get(name)
        task_id = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if isinstance(task_id, str) and TASK_ID.fullmatch(task_id):
            return CreateVerdict(AnswerMeaning.CREATED, task_id)
    return CreateVerdict(AnswerMeaning.UNKNOWN)
