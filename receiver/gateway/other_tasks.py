"""Whether an answer of Kling is about other tasks than the question. Then it is the answer to another question.

A name in a path may be a task id or an external id, and an answer may leave out the external id of its task. Such a
task counts as another only where the ledger knows the name as a task id.
"""

from collections.abc import Callable, Collection

from archiver.failures import ApiAnswerUnreadable
from archiver.kling import responses, results


def is_about_others(
    body: bytes, names: Collection[str], *, may_be_external: bool, is_task_id: Callable[[str], bool]
) -> bool:
    """Whether a successful answer shows tasks, and none of those that the question names. Calls `is_task_id` only for
    a task without an external id."""
    try:
        rows = responses.rows_of(responses.read_answer(body))
    except ApiAnswerUnreadable:
        return False
    named = [
        (task_id, results.readable_external_id(row))
        for row in rows
        if (task_id := results.readable_id(row)) is not None
    ]
    if not named or not names:
        return False
    for task_id, external_id in named:
        if task_id in names or (external_id and any(is_same(external_id, name) for name in names)):
            return False
        if not external_id and may_be_external and not all(map(is_task_id, names)):
            return False
    return True


def is_same(external_id: str, other: str) -> bool:
    """Whether they may be one external id: what Kling makes of case, blanks and length is not documented."""
    first, second = external_id.strip().casefold(), other.strip().casefold()
    return first.startswith(second) or second.startswith(first)
