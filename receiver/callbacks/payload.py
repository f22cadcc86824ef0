"""Bytes a stranger sent, turned into a `Callback` or into the sentence that says why not. No I/O.

Two guarantees:

1. Both functions of this module are total: whatever the bytes and headers are, they return a value. Deep
   nesting, a 5000-digit number, lone surrogates, NaN, bytes that are no text: each is an ordinary answer.
2. Of the body only the task id, the status word, the time and the *names* of the filled result arrays are
   read. Its URLs are never looked at (archiver/kling/API.md 1.5: without a signature all of it is a stranger's input).

Fields are looked up in both dialects at once (`task_id` before `id`, `task_status` before `status`) instead
of first deciding which dialect it is: what a `/solutions` callback looks like is undocumented, and a hint
that mixes the two is as good as any other.
"""

import base64
import codecs
import dataclasses
import datetime
import enum
import hmac
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NoReturn

import standardwebhooks

from archiver.model import STATUS_WORDS, TASK_ID, Callback, api_time

SIGNATURE_TOLERANCE_SECONDS = 300
INTEGER_DIGITS_MAX = 400
"""Longer integers read as infinity: python refuses to convert more than 4300 digits, with an exception."""
RESULT_ARRAYS_MAX = 16

_ARRAY_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
_TIMESTAMP = re.compile(rb"[0-9]{1,12}")
_ID_HEADER, _TIME_HEADER, _SIGNATURE_HEADER = b"webhook-id", b"webhook-timestamp", b"webhook-signature"


@dataclasses.dataclass(frozen=True, slots=True)
class Malformed:
    """Not a callback. `reason` is a sentence for the sender and holds nothing that the sender wrote."""

    reason: str


def parse(body: bytes, *, account: str, family_hint: str | None) -> Callback | Malformed:
    """The callback in `body`: a bare task object, or one object under `data`.

    A task object at the top wins over one under `data`; the documented body is the bare one.
    """
    document = _decode(body)
    if isinstance(document, Malformed):
        return document
    callback = _read(document, account=account, family_hint=family_hint)
    wrapped = document.get("data")
    if isinstance(callback, Malformed) and isinstance(wrapped, dict):
        return _read(wrapped, account=account, family_hint=family_hint)
    return callback


def _decode(body: bytes) -> dict[str, object] | Malformed:
    try:
        document = _json(body.removeprefix(codecs.BOM_UTF8).decode())
    except UnicodeDecodeError:
        return Malformed("The body is not UTF-8.")
    except RecursionError:
        return Malformed("The body is nested too deeply.")
    except ValueError:
        return Malformed("The body is not JSON.")
    if not isinstance(document, dict):
        return Malformed("The body is not a JSON object.")
    return document


def _read(document: Mapping[str, object], *, account: str, family_hint: str | None) -> Callback | Malformed:
    task_id = _task_id(_either(document, "task_id", "id"))
    if isinstance(task_id, Malformed):
        return task_id
    word = _either(document, "task_status", "status")
    if not isinstance(word, str) or not word:
        return Malformed("There is no status: task_status or status must be a non-empty string.")
    return Callback(
        account=account,
        task_id=task_id,
        status=STATUS_WORDS.get(word),
        family_hint=family_hint,
        updated_at=api_time(_either(document, "updated_at", "update_time")),
        result_arrays=_result_arrays(document),
        is_console_test=_is_console_test(document),
    )


def _is_console_test(document: Mapping[str, object]) -> bool:
    """Whether it looks like the test that the developer console sends (archiver/kling/API.md 1.5). So may the first
    callback of a genuine task, so this is only good for forgetting an id that the API does not know."""
    created = document.get("create_time")
    return (
        document.get("task_id") is None
        and document.get("status") == "submitted"
        and document.get("outputs") == []
        and document.get("message") == ""
        and created is not None
        and created == document.get("update_time")
    )


def _task_id(value: object) -> str | Malformed:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        return Malformed("There is no id: task_id or id must be a string or an integer.")
    if not TASK_ID.fullmatch(value):
        return Malformed("The id is not 1 to 128 characters of A-Z a-z 0-9 . _ ~ - (and not . or ..).")
    return value


def _either(document: Mapping[str, object], name: str, other: str) -> object:
    """The field of one dialect, or of the other where it is missing or null."""
    value = document.get(name)
    return document.get(other) if value is None else value


def _result_arrays(document: Mapping[str, object]) -> tuple[str, ...]:
    """`task_result` holds the arrays of the legacy dialect; the new one has only `outputs`, at the top."""
    result = document.get("task_result")
    arrays = {**(result if isinstance(result, dict) else {}), "outputs": document.get("outputs")}
    filled = [name for name, rows in arrays.items() if isinstance(rows, list) and rows]
    return tuple(name for name in filled if _ARRAY_NAME.fullmatch(name))[:RESULT_ARRAYS_MAX]


def _json(text: str) -> object:
    """The library's decoder; a second, slower one where a number was too long for it."""
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return _PATIENT_DECODER.decode(text)


def _integer(digits: str) -> float | int:
    return int(digits) if len(digits) <= INTEGER_DIGITS_MAX else float("inf")


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_PATIENT_DECODER = json.JSONDecoder(parse_int=_integer, parse_constant=_refuse_constant)


class SignatureVerdict(enum.Enum):
    """What the three headers of a callback are worth."""

    UNCHECKED = "unchecked"
    """No secret is set."""
    VALID = "valid"
    ABSENT = "absent"
    """None of the headers is there, and none has to be."""
    MISSING = "missing"
    """None of the headers is there, and a signature is required."""
    INCOMPLETE = "incomplete"
    STALE = "stale"
    """The time in the headers is no time, or more than five minutes off: a replay, or a wrong clock here."""
    WRONG = "wrong"

    @property
    def refused(self) -> bool:
        """Whether the callback must be answered 401."""
        return self not in _ACCEPTABLE


_ACCEPTABLE = frozenset({SignatureVerdict.UNCHECKED, SignatureVerdict.VALID, SignatureVerdict.ABSENT})


class Signatures:
    """Checks Standard Webhooks signatures (archiver/kling/API.md 1.5) against several secrets, for rotation.

    The library's `Webhook.sign` computes what the signature should be. Its `Webhook.verify` is not used: it
    reads the clock itself, and one malformed entry in the header hides a good one behind it and escapes as
    ValueError.
    """

    def __init__(
        self, secrets: Sequence[str], *, required: bool, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` gives Unix seconds.

        Raises:
            ValueError: a secret is empty or not base64 (its value is not in the message).
        """
        self._webhooks = [_webhook(secret) for secret in secrets]
        self._required = required
        self._clock = clock

    def check(self, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> SignatureVerdict:
        """The verdict on ASGI `headers` (any case) and the raw `body`."""
        if not self._webhooks:
            return SignatureVerdict.UNCHECKED
        sent = {name.lower(): value.strip() for name, value in headers}
        present = sent.keys() & {_ID_HEADER, _TIME_HEADER, _SIGNATURE_HEADER}
        if not present:
            return SignatureVerdict.MISSING if self._required else SignatureVerdict.ABSENT
        if len(present) < 3 or not all(sent[name] for name in present):
            return SignatureVerdict.INCOMPLETE
        signed_at = self._timely(sent[_TIME_HEADER])
        if signed_at is None:
            return SignatureVerdict.STALE
        expected = self._expected(message_id=sent[_ID_HEADER], signed_at=signed_at, body=body)
        matches = _any_equal(expected, sent[_SIGNATURE_HEADER])
        return SignatureVerdict.VALID if matches else SignatureVerdict.WRONG

    def _timely(self, timestamp: bytes) -> datetime.datetime | None:
        if not _TIMESTAMP.fullmatch(timestamp):
            return None
        seconds = int(timestamp)
        if abs(self._clock() - seconds) > SIGNATURE_TOLERANCE_SECONDS:
            return None
        return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)

    def _expected(self, *, message_id: bytes, signed_at: datetime.datetime, body: bytes) -> list[bytes]:
        """`v1,…` by each secret; none for a body that is not UTF-8, which is not JSON either."""
        try:
            text, name = body.decode(), message_id.decode()
        except UnicodeDecodeError:
            return []
        return [webhook.sign(name, signed_at, text).encode() for webhook in self._webhooks]


def _webhook(secret: str) -> standardwebhooks.Webhook:
    """The library skips what is not base64, and so would take a mistyped secret for another, valid one."""
    encoded = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError("a signing secret must be whsec_ followed by base64")
    return standardwebhooks.Webhook(key)


def _any_equal(expected: Sequence[bytes], header: bytes) -> bool:
    """Whether one entry of the header is one of `expected`. All pairs are compared, each in constant time."""
    matches = [hmac.compare_digest(wanted, entry) for entry in header.split() for wanted in expected]
    return any(matches)
