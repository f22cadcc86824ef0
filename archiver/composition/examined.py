"""Settings → what `doctor` and `kling-receiver --check` look at."""

import contextlib
import threading
from collections.abc import Iterator, Mapping

from archiver.audit.doctor import PublicSide, Subject
from archiver.composition.accounts import expected_of
from archiver.composition.clients import build_account
from archiver.composition.outside import build_probe_store, build_spool
from archiver.config import doubts
from archiver.config.roles import ProcessRole
from archiver.config.settings import Settings
from archiver.fetch.proxy import PLAIN_VARIABLES, VARIABLES
from archiver.metrics import Metrics
from archiver.model import Problem
from archiver.store import S3Store

_STORE_PRIVATE = (
    "KLING_LINK_MODE is redirect, and the store is private or plain http: readers outside cannot follow it"
)


@contextlib.contextmanager
def examined(
    settings: Settings,
    role: ProcessRole = ProcessRole.WHOLE,
    *,
    environ: Mapping[str, str],
    may_write: bool = True,
) -> Iterator[Subject]:
    """Everything that a process of this role depends on. Raises SettingsError if boto3 refuses its part of the
    settings."""
    with contextlib.ExitStack() as opened:
        accounts = [
            build_account(account, Metrics(), stop=threading.Event())
            for account in settings.accounts
            if role.uses_kling
        ]
        for account in accounts:
            opened.callback(account.client.close)
        store = build_probe_store(settings) if role.uses_kling else None
        yield Subject(
            notes=doubts.notes(settings),
            doubts=(*doubts.problems(settings), *_of_links(settings, store)),
            ledger_url=settings.ledger_url,
            spool=build_spool(settings) if role.uses_kling else None,
            accounts=accounts,
            bucket=settings.s3_bucket,
            store=store,
            expected=expected_of(settings, role),
            credentials={account.name: _kind_of(account) for account in settings.accounts},
            has_token=all(account.callback_token for account in settings.accounts),
            public=_public_sides(settings),
            hooks=_hooks(settings),
            proxy=settings.proxy,
            proxy_variables=[
                name for name in (*VARIABLES, *PLAIN_VARIABLES) if environ.get(name, "").strip()
            ],
            spool_dir=settings.spool_dir,
            has_links=any(account.link_secrets() and account.public_url for account in settings.accounts),
            may_write=may_write,
        )


def _of_links(settings: Settings, store: S3Store | None) -> Iterator[Problem]:
    """Doubts about links that only the store's endpoint shows."""
    if store is None or settings.link_mode != "redirect" or not settings.link_secret:
        return
    if doubts.is_hidden(store.endpoint_url):
        what_to_do = (
            "Remove KLING_LINK_MODE (the daemon then streams the files), unless all readers reach the store."
        )
        yield Problem(doubts.CODE, _STORE_PRIVATE, what_to_do)


def _kind_of(account: Settings) -> str:
    if account.api_key is None:
        return "a key pair"
    if account.access_key is None:
        return "an API Key"
    return "an API Key (the key pair recognises clients of the gateway)"


def _public_sides(settings: Settings) -> list[PublicSide]:
    urls = dict.fromkeys(account.public_url for account in settings.accounts if account.public_url)
    return [
        PublicSide(
            url.rstrip("/"),
            takes_callbacks=any(account.callback_token for account in _at(url, settings)),
            serves_links=any(account.link_secrets() for account in _at(url, settings)),
            serves_gateway=settings.gateway == "on",
            proxy=settings.proxy,
        )
        for url in urls
    ]


def _at(url: str, settings: Settings) -> list[Settings]:
    return [account for account in settings.accounts if account.public_url == url]


def _hooks(settings: Settings) -> dict[str, str]:
    hooks = {"KLING_FORWARD_URL": settings.forward_url, "KLING_ALERT_URL": settings.alert_url}
    return {name: url.get_secret_value() for name, url in hooks.items() if url is not None}
