"""The files behind the result URLs. The URL is the whole authorisation; Range is ignored and nothing else is offered.

A query string that was altered on the way is the client's mistake and complained of; an expired or revoked one is
life: 403. Purged files answer 404.
"""

from starlette.requests import Request
from starlette.responses import Response

from tests.simulator.account import Account, file_bytes
from tests.simulator.media import CONTENT_TYPES
from tests.simulator.request_log import RequestLog
from tests.simulator.signing import UrlVerdict


class Cdn:
    """One endpoint over the account's files."""

    def __init__(self, account: Account, *, log: RequestLog) -> None:
        self._account = account
        self._log = log

    async def file(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode("ascii", "replace")
        query = request.scope["query_string"].decode("ascii", "replace")
        found = self._account.file_at(path)
        if found is None:
            self._log.complain(f"unknown path: {path}")
            return _denied(404, "NoSuchKey")
        task, file = found
        verdict = self._account.judge_url(task, path, query)
        if verdict is UrlVerdict.ALTERED:
            self._log.complain(f"altered query string: {path}")
        if verdict is not UrlVerdict.GOOD:
            return _denied(403, "AccessDenied")
        if not self._account.has_bytes(task):
            return _denied(404, "NoSuchKey")
        return Response(file_bytes(task, file), media_type=CONTENT_TYPES[file.media_format])


def _denied(status: int, code: str) -> Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code></Error>'
    return Response(body, status_code=status, media_type="application/xml")
