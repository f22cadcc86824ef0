"""Signatures of callbacks (Standard Webhooks). No I/O. `Signatures.check` returns a value for any bytes."""

import base64
import datetime
import enum
import hmac
import re
import time
from collections.abc import Callable, Iterable, Sequence

import standardwebhooks

SIGNATURE_TOLERANCE_SECONDS = 300

_TIMESTAMP = re.compile(rb"[0-9]{1,12}")
_ID_HEADER, _TIME_HEADER, _SIGNATURE_HEADER = b"webhook-id", b"webhook-timestamp", b"webhook-signature"


class SignatureVerdict(enum.Enum):
    UNCHECKED = "unchecked"
    """No secret is set."""
    VALID = "valid"
    ABSENT = "absent"
    """There are no headers, and none is required."""
    MISSING = "missing"
    """There are no headers, but a signature is required."""
    INCOMPLETE = "incomplete"
    STALE = "stale"
    """The time is malformed, or five minutes off: a replay, or a wrong clock here."""
    WRONG = "wrong"

    @property
    def refused(self) -> bool:
        """The reply must be 401."""
        return self not in _ACCEPTABLE


_ACCEPTABLE = frozenset({SignatureVerdict.UNCHECKED, SignatureVerdict.VALID, SignatureVerdict.ABSENT})


class Signatures:
    """Checks Standard Webhooks signatures (archiver/kling/API.md 1.5) against several secrets, for rotation.

    The library's `Webhook.verify` is not used: it reads the clock itself, and raises ValueError at a malformed entry
    even if a good one follows.
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
        if not self._webhooks:
            return SignatureVerdict.UNCHECKED
        sent = {name.lower(): value.strip() for name, value in headers}
        present = sent.keys() & {_ID_HEADER, _TIME_HEADER, _SIGNATURE_HEADER}
        if not present:
            return SignatureVerdict.MISSING if self._required else SignatureVerdict.ABSENT
        if len(present) < 3 or not all(sent[name] for name in present):
            return SignatureVerdict.INCOMPLETE
        signed_at = self._recent_time(sent[_TIME_HEADER])
        if signed_at is None:
            return SignatureVerdict.STALE
        expected = self._expected(message_id=sent[_ID_HEADER], signed_at=signed_at, body=body)
        matches = _any_equal(expected, sent[_SIGNATURE_HEADER])
        return SignatureVerdict.VALID if matches else SignatureVerdict.WRONG

    def _recent_time(self, timestamp: bytes) -> datetime.datetime | None:
        if not _TIMESTAMP.fullmatch(timestamp):
            return None
        seconds = int(timestamp)
        if abs(self._clock() - seconds) > SIGNATURE_TOLERANCE_SECONDS:
            return None
        return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)

    def _expected(self, *, message_id: bytes, signed_at: datetime.datetime, body: bytes) -> list[bytes]:
        """Empty for a body that is not UTF-8, which is not JSON either."""
        try:
            text, name = body.decode(), message_id.decode()
        except UnicodeDecodeError:
            return []
        return [webhook.sign(name, signed_at, text).encode() for webhook in self._webhooks]


def _webhook(secret: str) -> standardwebhooks.Webhook:
    """Stricter than the library, which skips invalid characters and so accepts a mistyped secret."""
    encoded = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError("a signing secret must be whsec_ followed by base64")
    return standardwebhooks.Webhook(key)


def _any_equal(expected: Sequence[bytes], header: bytes) -> bool:
    """All pairs are compared, each in constant time."""
    matches = [hmac.compare_digest(signature, entry) for entry in header.split() for signature in expected]
    return any(matches)
