"""The settings, as the checks need them."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from archiver.engine.stages import Account
from archiver.fetch.proxy import Proxy
from archiver.fetch.spool import Spool
from archiver.model import Problem
from archiver.problems import Expected
from archiver.store.s3 import S3Store


@dataclasses.dataclass(frozen=True)
class PublicSide:
    """One KLING_PUBLIC_URL, and what must be routed below it."""

    url: str
    takes_callbacks: bool
    """A callback token is set."""
    serves_links: bool
    serves_gateway: bool
    proxy: Proxy | None = None
    """The proxy for requests to the outside."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """All values; nothing is read from the environment here."""

    notes: Sequence[str]
    """Sentences about the settings that need no action."""
    doubts: Sequence[Problem]
    """What an operator should change in the settings."""
    ledger_url: str
    spool: Spool | None
    """None for a door, which has no accounts and no store either."""
    accounts: Sequence[Account]
    """The accounts whose API is checked."""
    bucket: str
    store: S3Store | None
    expected: Expected | None = None
    """The settings that problems are judged by."""
    credentials: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Account → the kind of its credentials, in words."""
    has_token: bool = True
    """A callback token is set, or no door is meant to run here."""
    public: Sequence[PublicSide] = ()
    hooks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Setting → the URL that forwards or alerts are posted to. Secret."""
    proxy: Proxy | None = None
    proxy_variables: Sequence[str] = ()
    """The variables of the environment that name a proxy, or exceptions."""
    spool_dir: pathlib.Path | None = None
    has_links: bool = False
    """Readers are sent to presigned URLs, or served by them."""
    may_write: bool = True
    """The store may be probed with a small object, and the ledger may note what was found."""
