"""Sessions of the console: a signed cookie, and nothing on our side but the sessions that a logout has ended. These are
in the ledger too, so that a copied cookie opens no page of another process, or after a restart (`frame`).

1. The key is derived from the admin token, so that a changed token ends every session.
2. A guest's session gives no access: it binds the login form's CSRF token to one browser.
3. A session is valid for `SESSION_SECONDS` from its login, whatever it does.
"""

import base64
import collections
import dataclasses
import enum
import hashlib
import hmac
import secrets
from collections.abc import Callable

SESSION_SECONDS = 12 * 3600
ENDED_MAX = 10_000
"""Ended sessions that are remembered; the oldest is forgotten first."""
_NONCE_BYTES = 16


class SessionKind(enum.StrEnum):
    ADMIN = "admin"
    GUEST = "guest"


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """`cookie` is its whole text."""

    kind: SessionKind
    expires_at: int
    """Unix seconds."""
    cookie: str

    @property
    def is_admin(self) -> bool:
        return self.kind is SessionKind.ADMIN

    @property
    def digest(self) -> str:
        """The cookie's digest, which does not open a page."""
        return hashlib.sha256(self.cookie.encode()).hexdigest()[:32]


class Sessions:
    """Begins, reads and ends them. Used from the event loop only."""

    def __init__(self, token: str, *, now: Callable[[], float]) -> None:
        """`now` gives Unix seconds."""
        self._cookie_key = derived_key(token.encode(), "kling-archiver console session")
        self._csrf_key = derived_key(token.encode(), "kling-archiver console csrf")
        self._now = now
        self._ended: collections.OrderedDict[str, None] = collections.OrderedDict()

    def begin(self, kind: SessionKind) -> Session:
        expires_at = int(self._now()) + SESSION_SECONDS
        return self._signed(f"{kind}.{expires_at}.{secrets.token_urlsafe(_NONCE_BYTES)}", kind, expires_at)

    def read(self, cookie: str | None) -> Session | None:
        """None unless we signed it and it lasts."""
        claims, _, _ = (cookie or "").rpartition(".")
        kind, _, rest = claims.partition(".")
        expires_at = rest.partition(".")[0]
        if kind not in set(SessionKind) or not (expires_at.isascii() and expires_at.isdigit()):
            return None
        session = self._signed(claims, SessionKind(kind), int(expires_at[:12]))
        is_ours = hmac.compare_digest(session.cookie.encode(), (cookie or "").encode())
        lasts = session.expires_at > self._now() and session.cookie not in self._ended
        return session if is_ours and lasts else None

    def end(self, session: Session) -> None:
        self._ended[session.cookie] = None
        if len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)

    def csrf_token(self, session: Session) -> str:
        """The same in every tab of the session."""
        return _mac(self._csrf_key, session.cookie)

    def is_csrf_token(self, given: str, session: Session) -> bool:
        return hmac.compare_digest(given.encode(), self.csrf_token(session).encode())

    def _signed(self, claims: str, kind: SessionKind, expires_at: int) -> Session:
        return Session(kind, expires_at, f"{claims}.{_mac(self._cookie_key, claims)}")


def derived_key(secret: bytes, purpose: str) -> bytes:
    """32 bytes by HKDF-SHA256 (RFC 5869) without salt."""
    pseudorandom = hmac.digest(bytes(hashlib.sha256().digest_size), secret, "sha256")
    return hmac.digest(pseudorandom, purpose.encode() + b"\x01", "sha256")


def _mac(key: bytes, text: str) -> str:
    digest = hmac.digest(key, text.encode(errors="replace"), "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
