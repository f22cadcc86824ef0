"""The callback endpoint: `POST /callbacks/{token}` and `/callbacks/{token}/{family}`.

1. `CallbackEndpoint` is the contract, in its order: method, token, size, signature, shape, commit. Every case ends
   in one reply, one log line and one count.
2. A token is one of the settings, or one of the gateway's own, which may have the reference of a create behind it
   (`archiver/create/callback_tokens.py`). Both are known from the start: a request derives nothing.
3. 200 is sent only after `Intake.put` has returned. The endpoint waits only for the body and for the ledger, each for
   a bounded time.

It is plain ASGI: Starlette's routing and middleware cost a fifth of the whole request. Starlette's body limit would
answer 413 before 404, and so tell the limit to clients without a token.
"""

import hmac
import time
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from starlette.types import Receive, Scope, Send

from archiver import log
from archiver.create.callback_tokens import REFERENCE, SEPARATOR
from archiver.metrics import CallbackResult, Metrics
from archiver.model import FAMILY, Callback
from receiver.callbacks import payload
from receiver.callbacks.intake import Intake, IntakeUnavailable
from receiver.callbacks.signatures import Signatures, SignatureVerdict
from receiver.server import replies
from receiver.server.bodies import BodyProblem, announced_bytes, read_body
from receiver.server.replies import Reply

BODY_SECONDS_MAX = 10.0
FAMILIES_LOGGED_MAX = 100
"""Unknown families that one process logs; a token holder could send any number."""

_PROBLEM_REPLIES: Mapping[BodyProblem, Reply] = {
    BodyProblem.TOO_LARGE: replies.TOO_LARGE,
    BodyProblem.TOO_SLOW: replies.TOO_SLOW,
}
_PROBLEM_RESULTS: Mapping[BodyProblem, CallbackResult] = {
    BodyProblem.TOO_LARGE: CallbackResult.TOO_LARGE,
    BodyProblem.TOO_SLOW: CallbackResult.MALFORMED,
}
_log = log.get()


class _Address(NamedTuple):
    """`family` is None if the path names none; `safe` is False if it names a malformed one."""

    token: bytes
    family: str | None
    safe: bool


class CallbackEndpoint:
    """The ASGI application for `/callbacks` and all paths below it."""

    def __init__(
        self,
        *,
        intake: Intake,
        tokens: Mapping[str, str],
        gateway_tokens: Mapping[str, str],
        signatures: Mapping[str, Signatures],
        families: Collection[str],
        body_bytes_max: int,
        metrics: Metrics,
        body_seconds_max: float = BODY_SECONDS_MAX,
    ) -> None:
        """Both kinds of tokens map to accounts. Callbacks for other `families` are accepted and logged."""
        self._intake = intake
        self._accounts = [(token.encode(), account) for token, account in tokens.items()]
        self._gateway_accounts = [(token.encode(), account) for token, account in gateway_tokens.items()]
        self._signatures = {account: signatures[account] for account in tokens.values()}
        self._families = families
        self._families_logged: set[str] = set()
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
        account, reference = self._account(address.token)
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
            is_unsure = verdict is SignatureVerdict.TIME_UNSURE
            result = CallbackResult.UNAVAILABLE if is_unsure else CallbackResult.BAD_SIGNATURE
            self._refuse(result, f"signature_{verdict.value}", account)
            return await replies.send(replies.UNAVAILABLE if is_unsure else replies.BAD_SIGNATURE, send)
        callback = payload.parse(
            body, account=account, family_hint=address.family, create_reference=reference
        )
        if isinstance(callback, payload.Malformed):
            self._refuse(CallbackResult.MALFORMED, callback.reason, account)
            return await replies.send(replies.malformed(callback.reason), send)
        try:
            outcome = await self._intake.put(callback)
        except IntakeUnavailable as failure:
            self._refuse(CallbackResult.UNAVAILABLE, failure.reason, account)
            return await replies.send(replies.UNAVAILABLE, send)
        await replies.send(replies.OK, send)
        self._accepted(callback, CallbackResult(outcome), seconds=time.perf_counter() - started)
        return None

    def _account(self, token: bytes) -> tuple[str | None, str | None]:
        """The account of a token, and the reference behind it."""
        if (account := _owner(token, self._accounts)) is not None:
            return account, None
        bare, separator, rest = token.partition(SEPARATOR.encode())
        reference = rest.decode("ascii", "replace") if separator else None
        if reference is not None and not REFERENCE.fullmatch(reference):
            return None, None
        account = _owner(bare, self._gateway_accounts)
        return account, reference if account is not None else None

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
            self._log_family(callback.family_hint)

    def _log_family(self, family: str) -> None:
        if family not in self._families_logged and len(self._families_logged) < FAMILIES_LOGGED_MAX:
            self._families_logged.add(family)
            _log.warning("callback.family_unknown", family=family)

    def _refuse(self, result: CallbackResult, reason: str, account: str | None = None) -> None:
        self._counts[result].inc()
        _log.warning("callback.refused", result=result, reason=reason, account=account)


def _owner(token: bytes, accounts: Sequence[tuple[bytes, str]]) -> str | None:
    """Compares every token in constant time, even after a match."""
    found = None
    for known, account in accounts:
        if hmac.compare_digest(known, token):
            found = account
    return found


def _address(scope: Scope) -> _Address:
    """The raw path is split at slashes before it is decoded: an encoded slash must not make or hide a segment."""
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
    """None if malformed, for example with an encoded slash."""
    path = b"/".join(segments)
    if path.count(b"/") != len(segments) - 1:
        return None
    family = path.decode("ascii", "replace")
    return family if FAMILY.fullmatch(family) else None
