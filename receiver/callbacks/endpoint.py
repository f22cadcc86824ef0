"""The callback endpoint: `POST /callbacks/{token}` and `/callbacks/{token}/{family}`.

Two rules:

1. All of its control flow is in `Callbacks.__call__`, in the order of the contract: method, token, size,
   signature, shape, commit. Every case ends in one answer, one log line and one count.
2. 200 is sent after `Intake.put` has returned and never otherwise. Nothing here waits for anything outside
   but the sender's own body and the ledger, each for a bounded time.

It is plain ASGI: at several thousand callbacks a second, building request and response objects would cost
more than all else it does. Starlette's own body limit is not used because it answers 413 before the endpoint
could answer 404, and would so tell strangers which limit stands behind a door they have no token for.

The path is read as it came, split at real slashes and decoded after that, so that an encoded slash never
makes or hides a segment.
"""

import asyncio
import dataclasses
import enum
import hmac
import time
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from starlette.types import Message, Receive, Scope, Send

from archiver import log
from archiver.metrics import CallbackResult, Metrics
from archiver.model import FAMILY, Callback
from receiver.callbacks import payload
from receiver.callbacks.intake import Intake, IntakeUnavailable
from receiver.server import replies
from receiver.server.replies import Reply

BODY_SECONDS_MAX = 10.0
FAMILIES_NAMED_MAX = 100
"""How many different unknown families are logged in one process's life; a token holder could send any number."""

_log = log.get()


class BodyProblem(enum.StrEnum):
    """Why there is no body to look at."""

    TOO_LARGE = "too_large"
    TOO_SLOW = "body_too_slow"
    DISCONNECTED = "disconnected"


class _Address(NamedTuple):
    """What the path says. `family` is None when it names none; `safe` is False when it names nonsense."""

    token: bytes
    family: str | None
    safe: bool


class Callbacks:
    """The endpoint as an ASGI application for `/callbacks` and all paths under it."""

    def __init__(
        self,
        *,
        intake: Intake,
        tokens: Mapping[str, str],
        signatures: Mapping[str, payload.Signatures],
        families: Collection[str],
        body_bytes_max: int,
        metrics: Metrics,
        body_seconds_max: float = BODY_SECONDS_MAX,
    ) -> None:
        """`tokens` maps each valid token to its account, `signatures` each account to its check; `families`
        are those that this version knows."""
        self._intake = intake
        self._accounts = [(token.encode(), account) for token, account in tokens.items()]
        self._signatures = {account: signatures[account] for account in tokens.values()}
        self._families = families
        self._families_named: set[str] = set()
        self._body_bytes_max = body_bytes_max
        self._body_seconds_max = body_seconds_max
        self._metrics = metrics
        self._counts = {result: metrics.callbacks_total.labels(result=result) for result in CallbackResult}

    async def __call__(  # noqa: PLR0911  # one return per case of the contract, in its order
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        started = time.perf_counter()
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        address = _address(scope)
        if not address.token:
            self._refuse(CallbackResult.UNAUTHORIZED, "token_missing")
            return await replies.send_early(replies.NOT_FOUND, receive, send)
        if scope["method"] != "POST":
            return await replies.send_early(replies.NOT_POST, receive, send)
        account = self._account(address.token)
        if account is None or not address.safe:
            self._refuse(CallbackResult.UNAUTHORIZED, "token_unknown" if account is None else "path_unsafe")
            return await replies.send_early(replies.NOT_FOUND, receive, send)
        if announced_bytes(headers) > self._body_bytes_max:
            self._refuse(CallbackResult.TOO_LARGE, "announced_too_large", account)
            return await replies.send_early(replies.TOO_LARGE, receive, send)
        body = await read_body(receive, bytes_max=self._body_bytes_max, seconds_max=self._body_seconds_max)
        if body is BodyProblem.DISCONNECTED:
            _log.info("callback.refused", reason=body, account=account)
            return None
        if isinstance(body, BodyProblem):
            self._refuse(_PROBLEM_RESULTS[body], body, account)
            return await replies.send_early(_PROBLEM_REPLIES[body], receive, send)
        verdict = self._signatures[account].check(headers, body)
        if verdict.refused:
            self._refuse(CallbackResult.BAD_SIGNATURE, f"signature_{verdict.value}", account)
            return await replies.send(replies.BAD_SIGNATURE, send)
        callback = payload.parse(body, account=account, family_hint=address.family)
        if isinstance(callback, payload.Malformed):
            self._refuse(CallbackResult.MALFORMED, callback.reason, account)
            return await replies.send(dataclasses.replace(replies.MALFORMED, message=callback.reason), send)
        try:
            reception = await self._intake.put(callback)
        except IntakeUnavailable as failure:
            self._refuse(CallbackResult.UNAVAILABLE, failure.reason, account)
            return await replies.send(replies.UNAVAILABLE, send)
        await replies.send(replies.OK, send)
        self._accepted(callback, CallbackResult(reception), seconds=time.perf_counter() - started)
        return None

    def _account(self, token: bytes) -> str | None:
        """Whose token it is. Every token is compared, in constant time, wherever the match stands."""
        found = None
        for known, account in self._accounts:
            if hmac.compare_digest(known, token):
                found = account
        return found

    def _accepted(self, callback: Callback, result: CallbackResult, *, seconds: float) -> None:
        self._counts[result].inc()
        self._metrics.callback_ack_seconds.observe(seconds)
        self._metrics.last_callback_timestamp_seconds.set_to_current_time()
        _log.info(
            "callback.accepted",
            account=callback.account,
            task_id=callback.task_id,
            family=callback.family_hint,
            status=callback.status,
            result=result,
        )
        if callback.family_hint is not None and callback.family_hint not in self._families:
            self._name_family(callback.family_hint)

    def _name_family(self, family: str) -> None:
        if family not in self._families_named and len(self._families_named) < FAMILIES_NAMED_MAX:
            self._families_named.add(family)
            _log.warning("callback.family_unknown", family=family)

    def _refuse(self, result: CallbackResult, reason: str, account: str | None = None) -> None:
        self._counts[result].inc()
        _log.warning("callback.refused", result=result, reason=reason, account=account)


_PROBLEM_REPLIES: Mapping[BodyProblem, Reply] = {
    BodyProblem.TOO_LARGE: replies.TOO_LARGE,
    BodyProblem.TOO_SLOW: replies.TOO_SLOW,
}
_PROBLEM_RESULTS: Mapping[BodyProblem, CallbackResult] = {
    BodyProblem.TOO_LARGE: CallbackResult.TOO_LARGE,
    BodyProblem.TOO_SLOW: CallbackResult.MALFORMED,
}


def _address(scope: Scope) -> _Address:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    segments = raw.split(b"/")
    if b"%" in raw:
        segments = [unquote_to_bytes(segment) for segment in segments]
    if segments[-1] == b"" and len(segments) > 3:
        del segments[-1]
    if len(segments) < 3 or segments[1] != b"callbacks" or segments[0]:
        return _Address(b"", None, safe=False)
    if len(segments) == 3:
        return _Address(segments[2], None, safe=True)
    family = _family(segments[3:])
    return _Address(segments[2], family, safe=family is not None)


def _family(segments: list[bytes]) -> str | None:
    """The family that these segments spell, or None: an encoded slash inside one spells nothing."""
    path = b"/".join(segments)
    if path.count(b"/") != len(segments) - 1:
        return None
    family = path.decode("ascii", "replace")
    return family if FAMILY.fullmatch(family) else None


def announced_bytes(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """`Content-Length`; 0 without one, infinite where it is longer than any size could be."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value) if len(value) < 20 else float("inf")
    return 0


async def read_body(receive: Receive, *, bytes_max: int, seconds_max: float) -> bytes | BodyProblem:
    """The whole body, counted as it comes, whatever its length was announced to be.

    Nearly every body has come with its headers. A timer for each would cost more than reading it, so only one that
    comes in pieces has a timer; one that never begins is closed by the server (`serving`, rule 2).
    """
    first = await receive()
    if first["type"] == "http.request" and not first.get("more_body", False):
        body: bytes = first.get("body", b"")
        return body if len(body) <= bytes_max else BodyProblem.TOO_LARGE
    try:
        async with asyncio.timeout(seconds_max):
            return await _gather(first, receive, bytes_max=bytes_max)
    except TimeoutError:
        return BodyProblem.TOO_SLOW


async def _gather(first: Message, receive: Receive, *, bytes_max: int) -> bytes | BodyProblem:
    chunks: list[bytes] = []
    length, message = 0, first
    while message["type"] != "http.disconnect":
        chunks.append(message.get("body", b""))
        length += len(chunks[-1])
        if length > bytes_max:
            return BodyProblem.TOO_LARGE
        if not message.get("more_body", False):
            return b"".join(chunks)
        message = await receive()
    return BodyProblem.DISCONNECTED
