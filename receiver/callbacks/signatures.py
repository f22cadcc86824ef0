"""Signatures of callbacks (Standard Webhooks). No I/O. `Signatures.check` returns a value for any bytes."""

import base64
import enum
import hmac
import re
import time
from collections.abc import Callable, Iterable, Sequence

from standardwebhooks.webhooks import hmac_data

SIGNATURE_TOLERANCE_SECONDS = 300

_TIMESTAMP = re.compile(rb"[0-9]{1,11}")
"""Up to the year 5138; `datetime` ends in 9999."""
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
    """The time is malformed, or five minutes off by a clock that agrees with the sender's: a replay."""
    TIME_UNSURE = "time_unsure"
    """Signed by the secret, at a time that this machine cannot judge: its clock is off, or not compared yet."""
    WRONG = "wrong"

    @property
    def refused(self) -> bool:
        """The reply must be 401, or 503 for `TIME_UNSURE`."""
        return self not in _ACCEPTABLE


_ACCEPTABLE = frozenset({SignatureVerdict.UNCHECKED, SignatureVerdict.VALID, SignatureVerdict.ABSENT})


class Signatures:
    """Checks Standard Webhooks signatures (archiver/kling/API.md 1.5) against several secrets, for rotation.

    Of the library only the MAC is used. Its `Webhook` reads the clock itself, raises ValueError at a malformed entry
    even if a good one follows, and signs text only, while the scheme signs bytes.

    The scheme compares the sender's time with ours, to refuse replays. If our clock were six minutes off, every
    callback would be refused. So a time is accepted if it is near our clock or near the sender's clock, as its API
    reports it. If the two clocks differ, or the API's is not known, any other time is no proof of a replay: the reply
    is 503, and the sender tries again. A replay that passes costs at most one query: a callback is only a hint to ask
    the API.
    """

    def __init__(
        self,
        secrets: Sequence[str],
        *,
        required: bool,
        clock: Callable[[], float] = time.time,
        skew_ms: Callable[[], int | None] = lambda: 0,
    ) -> None:
        """`clock` gives Unix seconds, `skew_ms` how far the sender's clock is ahead of it, None while that is unknown.

        Raises:
            ValueError: a secret is empty or not base64 (its value is not in the message).
        """
        self._keys = [_key(secret) for secret in secrets]
        self._required = required
        self._clock = clock
        self._skew_ms = skew_ms

    def check(self, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> SignatureVerdict:
        if not self._keys:
            return SignatureVerdict.UNCHECKED
        sent = _signed(headers)
        if not sent:
            return SignatureVerdict.MISSING if self._required else SignatureVerdict.ABSENT
        if len(sent) < 3 or not all(sent.values()):
            return SignatureVerdict.INCOMPLETE
        if not _TIMESTAMP.fullmatch(sent[_TIME_HEADER]):
            return SignatureVerdict.STALE
        signed_at = int(sent[_TIME_HEADER])
        text = b".".join((sent[_ID_HEADER], sent[_TIME_HEADER], body))
        expected = [b"v1," + base64.b64encode(hmac_data(key, text)) for key in self._keys]
        if not _any_equal(expected, sent[_SIGNATURE_HEADER]):
            return SignatureVerdict.WRONG
        return self._verdict_on_time(signed_at)

    def _verdict_on_time(self, signed_at: int) -> SignatureVerdict:
        """The verdict on a right signature, made at this Unix second."""
        late = self._clock() - signed_at
        if abs(late) <= SIGNATURE_TOLERANCE_SECONDS:
            return SignatureVerdict.VALID
        skew_ms = self._skew_ms()
        if skew_ms is not None and abs(late + skew_ms / 1000) <= SIGNATURE_TOLERANCE_SECONDS:
            return SignatureVerdict.VALID
        agrees = skew_ms is not None and abs(skew_ms) <= SIGNATURE_TOLERANCE_SECONDS * 1000
        return SignatureVerdict.STALE if agrees else SignatureVerdict.TIME_UNSURE


def _signed(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers of the scheme. Several lines of signatures are one list, as several entries of one line are."""
    sent: dict[bytes, bytes] = {}
    for name, value in headers:
        header = name.lower()
        if header in (_ID_HEADER, _TIME_HEADER):
            sent[header] = value.strip()
        elif header == _SIGNATURE_HEADER:
            sent[header] = (sent.get(header, b"") + b" " + value).strip()
    return sent


def _key(secret: str) -> bytes:
    """Stricter than the library, which skips invalid characters and so accepts a mistyped secret."""
    encoded = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError("a signing secret must be whsec_ followed by base64")
    return key


def _any_equal(expected: Sequence[bytes], header: bytes) -> bool:
    """All pairs are compared, each in constant time."""
    matches = [hmac.compare_digest(signature, entry) for entry in header.split() for signature in expected]
    return any(matches)
