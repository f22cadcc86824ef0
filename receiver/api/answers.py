"""The answers of `/api`: the table of refusals, and JSON."""

import json
import uuid
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from receiver.server import replies
from receiver.server.bodies import BodyProblem
from receiver.server.replies import Reply

UNAUTHORIZED = Reply(
    401,
    1000,
    "The admin token is missing or wrong: Authorization: Bearer.",
    ((b"www-authenticate", b"Bearer"),),
)
UNKNOWN = Reply(404, 1203, "No task has this id or external id.")
AMBIGUOUS = replies.malformed("Several accounts have this id: say which with ?account=.")
FORGOTTEN = Reply(409, 1201, "This task was forgotten, and is not followed again.")
ALREADY_ARCHIVED = Reply(409, 1201, "This task is archived, and does not change.")
INVALID = replies.malformed("The body is no registration.")
NOT_NOW = Reply(503, 5001, "The ledger cannot be used now; please try again.", (replies.RETRY_AFTER,))
OF_BODY = {BodyProblem.TOO_LARGE: replies.TOO_LARGE, BodyProblem.TOO_SLOW: replies.TOO_SLOW}


class ApiRefusal(Response):
    """A refusal, sent so that a client with unsent body bytes can still read it. With `is_body_read` there are none."""

    def __init__(self, reply: Reply, *, is_body_read: bool = False) -> None:
        super().__init__(status_code=reply.status)
        self._reply = reply
        self._is_body_read = is_body_read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- as in Response
        if self._is_body_read:
            await replies.send(self._reply, send)
        else:
            await replies.send_early(self._reply, receive, send)


def answer(content: object) -> Response:
    """Any JSON, without an envelope."""
    return Response(json.dumps(content), media_type="application/json")


def success(data: Mapping[str, object]) -> Response:
    """`data` in the envelope of Kling's own API."""
    return answer({"code": 0, "message": "ok", "request_id": str(uuid.uuid4()), "data": data})
