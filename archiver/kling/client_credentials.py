"""Recognises the credentials that clients of the gateway send. No I/O.

Two kinds open an account:

1. Kling's own: an API Key of the account, or a token signed with its secret key. They go on to Kling as they came.
2. A gateway key. A client sends the key itself, or, if it only knows pairs of keys, a token whose `iss` is the key's
   name, signed with the key. Kling does not know gateway keys: the gateway replaces them by the account's own
   credentials.

Tokens are checked more strictly than by Kling: HS256 only, no `crit`, `exp` present and at most a day ahead.
"""

import dataclasses
import enum
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeGuard

import jwt
from jwt.algorithms import HMACAlgorithm

from archiver.kling.credentials import AnyKeyLength

TOKEN_SECONDS_MAX = 24 * 3600
TIME_MAX = 2**53
LEEWAY_SECONDS = 60
"""A tolerance for clocks that differ."""
BEARER_BYTES_MAX = 8192
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([\x21-\x7e]+) *")
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


_verifier = jwt.PyJWS(algorithms=[])
_verifier.register_algorithm("HS256", AnyKeyLength(HMACAlgorithm.SHA256))


class CredentialProblem(enum.StrEnum):
    """Why a client's credentials are refused; also the `reason` in the log."""

    MISSING = "authorization_missing"
    UNKNOWN = "credentials_unknown"


@dataclasses.dataclass(frozen=True, slots=True)
class AccountCredentials:
    """The credentials that identify the clients of an account."""

    account: str
    key_pairs: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    """Access key → secret key."""
    api_keys: Sequence[str] = dataclasses.field(default=(), repr=False)
    gateway_keys: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    """Application → key."""


@dataclasses.dataclass(frozen=True, slots=True)
class KnownClient:
    """The account that a client's credentials open."""

    account: str
    goes_on: bool
    """Whether the gateway passes the credentials on: Kling knows them."""


class ClientCredentials:
    """All credentials that open the gateway. Thread-safe."""

    def __init__(self, accounts: Iterable[AccountCredentials], *, now: Callable[[], float]) -> None:
        """`now` is in Unix seconds."""
        self._now = now
        self._by_digest: list[tuple[bytes, KnownClient]] = []
        self._secrets: dict[str, tuple[str, KnownClient]] = {}
        for known in accounts:
            own, ours = KnownClient(known.account, goes_on=True), KnownClient(known.account, goes_on=False)
            self._by_digest += [(_digest(key.encode()), own) for key in known.api_keys]
            self._by_digest += [(_digest(key.encode()), ours) for key in known.gateway_keys.values()]
            self._secrets |= {name: (key, ours) for name, key in known.gateway_keys.items()}
            self._secrets |= {access: (secret, own) for access, secret in known.key_pairs.items()}

    def recognise(self, headers: Iterable[tuple[bytes, bytes]]) -> KnownClient | CredentialProblem:
        """The client that sent these headers (names in lower case), or why its credentials are refused."""
        sent = [value for name, value in headers if name == b"authorization"]
        if not any(value.strip() for value in sent):
            return CredentialProblem.MISSING
        bearer = _BEARER.fullmatch(sent[0]) if len(sent) == 1 and len(sent[0]) <= BEARER_BYTES_MAX else None
        if bearer is None:
            return CredentialProblem.UNKNOWN
        return (
            self._by_key(bearer[1]) or self._by_token(bearer[1].decode("ascii")) or CredentialProblem.UNKNOWN
        )

    def _by_key(self, key: bytes) -> KnownClient | None:
        """Compares every digest in constant time, even after a match."""
        digest, found = _digest(key), None
        for known, client in self._by_digest:
            if hmac.compare_digest(known, digest):
                found = client
        return found

    def _by_token(self, token: str) -> KnownClient | None:
        if not _TOKEN.fullmatch(token):
            return None
        try:
            unverified = _verifier.decode_complete(token, options={"verify_signature": False})
            issuer = json.loads(unverified["payload"])["iss"]
            secret, client = self._secrets[issuer]
            if unverified["header"].get("alg") != "HS256" or not {"crit", "b64"}.isdisjoint(
                unverified["header"]
            ):
                return None
            claims = json.loads(_verifier.decode(token, secret, algorithms=["HS256"]))
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return client if _is_current(claims, now=self._now()) else None


def _is_current(claims: Mapping[str, object], *, now: float) -> bool:
    expires, begins = claims.get("exp"), claims.get("nbf", now)
    if not (_is_time(expires) and _is_time(begins)):
        return False
    return (
        now - LEEWAY_SECONDS < expires <= now + TOKEN_SECONDS_MAX + LEEWAY_SECONDS
        and begins <= now + LEEWAY_SECONDS
    )


def _is_time(value: object) -> TypeGuard[int | float]:
    """Whether a claim is a time in Unix seconds. JSON may contain endless numbers, and Python counts `true` as one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < TIME_MAX


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()
