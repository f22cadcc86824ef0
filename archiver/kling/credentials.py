"""The credentials of an account. Only this module signs tokens."""

import dataclasses
import json
import math
import re
import threading
from collections.abc import Callable

import jwt
from jwt.algorithms import HMACAlgorithm

TOKEN_SECONDS = 1800
TOKEN_EARLY_SECONDS = 5
"""`nbf` lies this far back, for clocks slightly ahead."""
TOKEN_RENEWAL_SECONDS = 300
"""A token with less left is replaced before it is used."""


@dataclasses.dataclass(frozen=True, slots=True)
class KeyPair:
    """Access key and secret key. They sign tokens, which only the `/v1` paths accept."""

    access_key: str = dataclasses.field(repr=False)
    secret_key: str = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        _require_plain(self.access_key, what="KLING_ACCESS_KEY")
        _require_plain(self.secret_key, what="KLING_SECRET_KEY")


@dataclasses.dataclass(frozen=True, slots=True)
class ApiKey:
    """One key for all paths, sent as it is."""

    key: str = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        _require_plain(self.key, what="KLING_API_KEY")


Credential = KeyPair | ApiKey


def _require_plain(secret: str, *, what: str) -> None:
    """Refuse a secret that cannot be a header: the HTTP client would raise an exception that contains it."""
    if not re.fullmatch(r"[\x21-\x7e]+", secret):
        raise ValueError(f"{what} must be printable ASCII without spaces, and not empty.")


class AnyKeyLength(HMACAlgorithm):
    """HS256 without PyJWT's warning about short keys: Kling chooses their length."""

    def check_key_length(self, key: bytes) -> str | None:  # noqa: ARG002 -- PyJWT's signature
        return None


_signer = jwt.PyJWS(algorithms=[])
_signer.register_algorithm("HS256", AnyKeyLength(HMACAlgorithm.SHA256))


def mint_token(access_key: str, secret_key: str, *, now: int) -> str:
    """A token for half an hour from `now` (Unix seconds), as API.md 2 has it."""
    claims = {"iss": access_key, "exp": now + TOKEN_SECONDS, "nbf": now - TOKEN_EARLY_SECONDS}
    return _signer.encode(json.dumps(claims).encode(), secret_key, algorithm="HS256")


class Bearer:
    """The value of the Authorization header; tokens are renewed before they expire."""

    def __init__(self, credential: Credential, *, now: Callable[[], float]) -> None:
        self._credential = credential
        self._now = now
        self._lock = threading.Lock()
        self._token = ""
        self._renewal_at = -math.inf

    def current(self) -> str:
        if isinstance(self._credential, ApiKey):
            return self._credential.key
        now = self._now()
        with self._lock:
            # Also renew after the clock was set back by more than a token's life: its `nbf` would be in the future.
            if not self._renewal_at - TOKEN_SECONDS <= now < self._renewal_at:
                self._token = mint_token(
                    self._credential.access_key, self._credential.secret_key, now=int(now)
                )
                self._renewal_at = now + TOKEN_SECONDS - TOKEN_RENEWAL_SECONDS
            return self._token

    def drop(self, refused: str) -> bool:
        """Forget a token that the API refused; True if a fresh one can be signed. If many threads were refused with one
        token, only the first signs a new one."""
        if isinstance(self._credential, ApiKey):
            return False
        with self._lock:
            if self._token == refused:
                self._renewal_at = -math.inf
        return True


def secrets_of(credential: Credential) -> tuple[str, ...]:
    if isinstance(credential, ApiKey):
        return (credential.key,)
    return (credential.access_key, credential.secret_key)
