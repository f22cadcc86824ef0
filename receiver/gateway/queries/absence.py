"""Whether an answer of Kling denies that a task exists."""

from archiver import failures
from archiver.failures import ApiAnswerUnreadable
from archiver.kling import responses
from receiver.gateway.exchange import GatewayAnswer

JUDGED_BYTES_MAX = 64 * 1024
"""A refusal is short. A longer body is not read here, because reading it would delay other requests."""


def is_not_found(answer: GatewayAnswer) -> bool:
    """Whether the answer denies the tasks of a query that names them by their ids."""
    if not isinstance(answer.body, bytes) or len(answer.body) > JUDGED_BYTES_MAX:
        return False
    try:
        code = responses.read_answer(answer.body).code
    except ApiAnswerUnreadable:
        code = None
    failure = responses.failure(status=answer.status, code=code, message="", family=None, by_id=True)
    return isinstance(failure, failures.TaskNotFound | failures.TaskNotShown)
