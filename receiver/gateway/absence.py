"""Whether an answer of Kling denies that a task exists."""

from archiver import failures
from archiver.failures import ApiAnswerUnreadable
from archiver.kling import responses
from receiver.gateway.exchange import GatewayAnswer

JUDGED_BYTES_MAX = 64 * 1024
"""A refusal is short; what is read here is read between two requests."""


def is_not_found(answer: GatewayAnswer) -> bool:
    """Of a question that names tasks by their ids."""
    if not isinstance(answer.body, bytes) or len(answer.body) > JUDGED_BYTES_MAX:
        return False
    try:
        code = responses.read_answer(answer.body).code
    except ApiAnswerUnreadable:
        code = None
    failure = responses.failure(status=answer.status, code=code, message="", family=None, by_id=True)
    return isinstance(failure, failures.TaskNotFound | failures.TaskNotShown)
