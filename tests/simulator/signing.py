"""Signed result URLs and API tokens, checked with code of our own so that no library's leniency hides a client's slip.

The order of the checks is the order in which the documented error codes would be reached.
"""

import base64
import binascii
import enum
import hashlib
import hmac
import json
import re

LIFETIME_SECONDS_MAX = 3600
"""The longest `exp` that clients are known to use; the limit itself is undocumented."""


class UrlVerdict(enum.Enum):
    """What a query string of the CDN turned out to be."""

    GOOD = "good"
    ALTERED = "altered"
    EXPIRED = "expired"
    REVOKED = "revoked"


def _url_safe(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


class UrlSigner:
    """Signs CloudFront style. The query holds lower-case escapes and an escaped `~` beside a plain one, which a
    client that rewrites URLs "equivalently" destroys; the check is on the raw bytes."""

    _SHAPE = re.compile(
        r"cacheKey=ChtzZWN1cml0eS5rbGluZy%2bmeta%7E([0-9]+)-([0-9a-f]+)%3d%3D&x-kcdn-pid=112452"
        r"&Expires=([0-9]+)&Signature=([A-Za-z0-9~_-]+)&Key-Pair-Id=K1SIMULATOR"
    )

    def __init__(self, key: bytes) -> None:
        self._key = key

    def query(self, path: str, *, expires: int, generation: int, nonce: int) -> str:
        """The query string for one file; `expires` in Unix seconds."""
        head = (
            f"cacheKey=ChtzZWN1cml0eS5rbGluZy%2bmeta%7E{generation}-{nonce:x}%3d%3D&x-kcdn-pid=112452"
            f"&Expires={expires}"
        )
        digest = hmac.digest(self._key, f"{path}?{head}".encode(), "sha256")
        return f"{head}&Signature={_url_safe(digest)}~~&Key-Pair-Id=K1SIMULATOR"

    def check(self, path: str, query: str, *, now: float, generation: int) -> UrlVerdict:
        """`query` exactly as it came over the wire."""
        shape = self._SHAPE.fullmatch(query)
        if shape is None:
            return UrlVerdict.ALTERED
        signed_generation, nonce, expires = int(shape[1]), int(shape[2], 16), int(shape[3])
        if query != self.query(path, expires=expires, generation=signed_generation, nonce=nonce):
            return UrlVerdict.ALTERED
        if expires <= now:
            return UrlVerdict.EXPIRED
        return UrlVerdict.GOOD if signed_generation == generation else UrlVerdict.REVOKED


def token_fault(
    authorization: str | None, *, access_key: str, secret_key: str, api_key: str, now: float
) -> tuple[int, str] | None:
    """The error code and text for an `Authorization` header, or None when it opens the door."""
    if authorization is None or authorization.removeprefix("Bearer").strip() == "":
        return 1001, "Authorization is empty"
    scheme, _, token = authorization.partition(" ")
    if scheme != "Bearer":
        return 1002, "Authorization is invalid: not a Bearer token"
    if hmac.compare_digest(token.encode(), api_key.encode()):
        return None
    if token.count(".") != 2:
        return 1000, "authentication failed: unknown API key"
    return _jwt_fault(token, access_key=access_key, secret_key=secret_key, now=now)


def is_api_key(authorization: str | None, api_key: str) -> bool:
    """Whether the header carries the static key, as the new-standard paths demand."""
    return authorization == f"Bearer {api_key}"


def _jwt_fault(token: str, *, access_key: str, secret_key: str, now: float) -> tuple[int, str] | None:
    signed, _, signature = token.rpartition(".")
    header, claims = (_jwt_part(part) for part in signed.split("."))
    if header is None or claims is None or header != {"alg": "HS256", "typ": "JWT"}:
        return 1002, "Authorization is invalid: not a JWT signed with HS256"
    expected = hmac.new(secret_key.encode(), signed.encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(signature.encode(), _url_safe(expected).encode()):
        return 1000, "authentication failed: signature"
    if claims.get("iss") != access_key:
        return 1000, "authentication failed: access key not found"
    return _claims_fault(claims.get("exp"), claims.get("nbf"), now=now)


def _claims_fault(expires: object, not_before: object, *, now: float) -> tuple[int, str] | None:
    if not isinstance(expires, int) or not isinstance(not_before, int):
        return 1002, "Authorization is invalid: exp and nbf must be whole seconds"
    if now < not_before:
        return 1003, "Authorization is not yet valid"
    if now >= expires:
        return 1004, "Authorization has expired"
    if expires - now > LIFETIME_SECONDS_MAX:
        return 1002, "Authorization is invalid: exp is too far away"
    return None


def _jwt_part(part: str) -> dict[str, object] | None:
    try:
        decoded = json.loads(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return decoded if isinstance(decoded, dict) else None


def webhook_headers(secret: str, *, webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Standard Webhooks headers for one callback; `timestamp` in Unix seconds."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.digest(key, signed, "sha256")).decode("ascii")
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }
