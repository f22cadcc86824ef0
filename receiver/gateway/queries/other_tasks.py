"""Whether an answer of Kling is about other tasks than the question. Then it is the answer to another question.

Any doubt speaks for the answer: Kling may take ids in more forms than we know, and no genuine answer may be refused.

1. A task counts as asked for if its id or its external id occurs in the question. Case, blanks, punctuation and
   percent-encoding do not matter. So the syntax of a list does not matter either.
2. A name in a path may be a task id or an external id, and an answer may leave out the external id of its task. Such a
   task counts as another only where the ledger knows the name as a task id.
3. An array is no answer about a single task, and the meaning of a path of an unknown family is not known.
"""

import dataclasses
import html
import unicodedata
from collections.abc import Callable
from urllib.parse import parse_qsl, unquote_to_bytes

from archiver.failures import ApiAnswerUnreadable
from archiver.families import FAMILIES
from archiver.kling import responses, results
from receiver.gateway.exchange import GatewayRequest

_ID_PARAMETERS = frozenset({"task_ids", "external_task_ids"})


@dataclasses.dataclass(frozen=True, slots=True)
class TaskQuestion:
    """What a single query asks for."""

    texts: tuple[str, ...]
    """The question in each encoding that it may have, folded."""
    name: str | None
    """The name in a path with one name: a task id or an external one."""
    may_be_external: bool


def question_of(request: GatewayRequest) -> TaskQuestion | None:
    """None where no answer can be told from another's: at paths of unknown families, and without ids."""
    name = request.identifier
    if name is not None and request.family not in FAMILIES:
        return None
    given = parse_qsl(request.raw_query.decode("latin-1"))
    asked = [(parameter, value) for parameter, value in given if parameter in _ID_PARAMETERS]
    if name is None and not any(_folded(value) for _, value in asked):
        return None
    last = request.path.removesuffix(b"/").rpartition(b"/")[2]
    raw = unquote_to_bytes(last + b"?" + request.raw_query)
    texts = tuple(_folded(raw.decode(encoding, errors="replace")) for encoding in ("utf-8", "latin-1"))
    may_be_external = name is not None or any(parameter == "external_task_ids" for parameter, _ in asked)
    return TaskQuestion(texts, name, may_be_external)


def is_about_others(body: bytes, question: TaskQuestion, *, is_task_id: Callable[[str], bool]) -> bool:
    """Whether a successful answer shows tasks, and none of those that the question names. Calls `is_task_id` only for
    a task without an external id."""
    try:
        placed = responses.placed_rows(responses.read_answer(body))
    except ApiAnswerUnreadable:
        return False
    if question.name is not None and any(place != responses.DATA for place, _ in placed):
        return False
    named = [
        (task_id, results.readable_external_id(row))
        for _, row in placed
        if (task_id := results.readable_id(row)) is not None
    ]
    if not named or any(_is_asked(name, question) for names in named for name in names if name):
        return False
    if question.may_be_external and not all(external_id for _, external_id in named):
        return question.name is not None and is_task_id(question.name)
    return True


def _is_asked(name: str, question: TaskQuestion) -> bool:
    forms = _folded(name), _folded(html.unescape(name))
    return any(form in text for form in forms for text in question.texts)


def _folded(text: str) -> str:
    """Only letters and digits; a plus is a blank in one place and itself in another."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))
