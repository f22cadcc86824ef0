"""When a task needs fresh URLs. Verification asks the API for them; the archive stage never does. Pure."""

from collections.abc import Mapping

from archiver.failures import (
    AssetGone,
    AssetHostUnlisted,
    Disposition,
    Failure,
    FetchRefused,
    NotMedia,
    PartlyDone,
    ResultsMissing,
    UrlRefused,
)
from archiver.fetch.urls import expires_at
from archiver.model import DAY_MS, Lease

INTERVAL_MS = DAY_MS
"""The API must not be asked again and again about a task whose files are gone."""

_FRESH_URL_MAY_HELP = (AssetGone, FetchRefused, NotMedia, UrlRefused)
"""An expired URL may answer 400, 401, 403, 404, 410, or 200 with an error page (API.md 8.3)."""


def wants_fresh_urls(lease: Lease, error: Exception, *, now: int) -> bool:
    """Whether to ask for fresh URLs after `error`: at most once a day, or when a URL's own expiry has passed since."""
    partly = error if isinstance(error, PartlyDone) else PartlyDone(error, stored=(), failed={})
    cause = partly.cause
    if isinstance(cause, ResultsMissing):
        return True
    is_hold = isinstance(cause, Failure) and cause.disposition is Disposition.HOLD
    if is_hold and not isinstance(cause, AssetHostUnlisted):
        return False  # the host or the store is at fault, not the URL
    failed = {stem for stem, failure in partly.failed.items() if isinstance(failure, _FRESH_URL_MAY_HELP)}
    if not failed:
        return False
    asked_at = lease.fresh_asked_at
    if asked_at is None or asked_at + INTERVAL_MS <= now:
        return True
    expiries = [expires_at(url) for url in _urls(lease, failed)]
    return any(expiry is not None and asked_at < expiry <= now for expiry in expiries)


def _urls(lease: Lease, stems: set[str]) -> list[str]:
    urls: Mapping[str, str] = {leased.asset.stem: leased.asset.url for leased in lease.assets}
    return [urls[stem] for stem in stems if stem in urls]
