"""Who may use `/api`."""

import hmac
from collections.abc import Iterable


class AdminToken:
    """KLING_ADMIN_TOKEN, compared as bytes in constant time."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def is_in(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether the only Authorization header is `Bearer` and the token; the scheme has no case (RFC 9110)."""
        sent = [value for name, value in headers if name == b"authorization"]
        scheme, _, token = (sent[0] if len(sent) == 1 else b"").partition(b" ")
        is_equal = hmac.compare_digest(token.strip(), self._token)
        return is_equal and scheme.lower() == b"bearer"
