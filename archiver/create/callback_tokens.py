"""The gateway's own callback tokens. No I/O.

A task that was created through the gateway reports to a token of its own, so that logs and proxies can tell the two
kinds apart. The token is derived from a callback token of the account. So every process that takes callbacks can
compute it, and it becomes invalid when the token that it was derived from leaves the settings.
"""

import base64
import hashlib
import hmac
import re
import secrets

_LABEL = b"kling-archiver gateway callback token"
GATEWAY_TOKEN_CHARACTERS = 43
"""The length of 32 bytes in base64url without padding."""
REFERENCE = re.compile(r"[A-Za-z0-9_-]{22}")
"""For `fullmatch`."""
SEPARATOR = "."


def gateway_token(callback_token: str) -> str:
    """HMAC-SHA256 of a fixed label under the callback token."""
    digest = hmac.new(callback_token.encode(), _LABEL, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def new_reference() -> str:
    """128 random bits that identify a create in its callback URL."""
    return secrets.token_urlsafe(16)


def referring(token: str, reference: str) -> str:
    """The token, followed by the reference of one create."""
    return f"{token}{SEPARATOR}{reference}"
