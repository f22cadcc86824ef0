"""Settings of an account → its API client and the rest of what its stages need."""

import threading
from collections.abc import Callable

from archiver.archive.transfer import TransferLimits
from archiver.config.settings import Settings, SettingsError
from archiver.engine.stages import Account
from archiver.kling.client import KlingClient
from archiver.kling.credentials import ApiKey, Credential, KeyPair
from archiver.kling.limiter import RateLimiter
from archiver.ledger import unix_ms
from archiver.metrics import Metrics


def build_client(
    account: Settings, metrics: Metrics, *, stop: threading.Event, now: Callable[[], int] = unix_ms
) -> KlingClient:
    """The API client of one account, with the limiter that all its questions share."""
    limiter = RateLimiter(account.query_rate_per_second, wait=stop.wait)

    def observe(endpoint: str, code: str) -> None:
        metrics.api_requests_total.labels(endpoint=endpoint, code=code).inc()

    return KlingClient(
        account.base_url,
        credential_of(account),
        limiter,
        observe=observe,
        now=lambda: now() / 1000,
        secrets=account.secrets(),
    )


def build_account(
    settings: Settings, metrics: Metrics, *, stop: threading.Event, now: Callable[[], int] = unix_ms
) -> Account:
    """The stages' view of one account; `settings` are those of this account alone."""
    return Account(
        name=settings.account,
        families=settings.families,
        ignored_families=settings.ignored_families,
        client=build_client(settings, metrics, stop=stop, now=now),
        limits=TransferLimits(
            image_bytes_max=settings.asset_bytes_max, video_bytes_max=settings.video_bytes_max
        ),
        prefix=settings.s3_prefix,
        former_names=settings.account_former_names,
        full_sweep_interval_ms=int(settings.sweep_full_interval_seconds * 1000),
    )


def credential_of(settings: Settings) -> Credential:
    """The credentials that the account sends to Kling: the API Key if there is one, because it opens all paths."""
    if settings.api_key is not None:
        return ApiKey(settings.api_key.get_secret_value())
    access_key, secret_key = settings.access_key, settings.secret_key
    if access_key is None or secret_key is None:
        raise SettingsError(["KLING_ACCESS_KEY and KLING_SECRET_KEY (or KLING_API_KEY) are missing"])
    return KeyPair(access_key.get_secret_value(), secret_key.get_secret_value())
