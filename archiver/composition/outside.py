"""Settings → bucket, spool and the receiver of alerts."""

from typing import Any

from archiver.alerts.sender import AlertSender
from archiver.config.settings import Settings, SettingsError
from archiver.failures import Failure
from archiver.fetch.spool import Spool
from archiver.store import S3Store
from archiver.webhooks.sender import WebhookSender

_STORE_CONNECTIONS_PER_ACCOUNT = 1
"""Connections for each transfer of an account, and as many again for all accounts together: each task may list its
folder and put its manifest meanwhile."""
_LINK_CONNECTIONS = 4
_LINK_CONNECT_SECONDS, _LINK_READ_SECONDS = 2.0, 4.0
_PROBE_CONNECTIONS = 4
_PROBE_CONNECT_SECONDS, _PROBE_READ_SECONDS = 3.0, 6.0
"""Less than the 10 s that a check of `doctor` may last, so that the store's own failure is what it shows."""
SPOOL_MEMORY_BYTES_MAX = 32 * 1024 * 1024
"""Holds sixteen images of a usual size, which then never touch the disk."""


def build_store(settings: Settings) -> S3Store:
    """The bucket of the settings, for all accounts. Raises SettingsError."""
    return _open_store(
        settings,
        connections=settings.transfer_concurrency
        * (1 + len(settings.accounts) * _STORE_CONNECTIONS_PER_ACCOUNT),
    )


def build_link_store(settings: Settings) -> S3Store:
    """The same bucket, for links: a client waits, so each call ends within seconds. Raises SettingsError."""
    return _open_store(
        settings,
        connections=_LINK_CONNECTIONS,
        attempts_max=1,
        connect_timeout_seconds=_LINK_CONNECT_SECONDS,
        read_timeout_seconds=_LINK_READ_SECONDS,
    )


def build_probe_store(settings: Settings) -> S3Store:
    """The same bucket, for `doctor`: no call is repeated. Raises SettingsError."""
    return _open_store(
        settings,
        connections=_PROBE_CONNECTIONS,
        attempts_max=1,
        connect_timeout_seconds=_PROBE_CONNECT_SECONDS,
        read_timeout_seconds=_PROBE_READ_SECONDS,
    )


def build_reading_store(settings: Settings, *, transfers: int) -> S3Store:
    """The same bucket, for a command that reads this many objects at once. Raises SettingsError."""
    return _open_store(settings, connections=transfers + 1)


def _open_store(settings: Settings, *, connections: int, **limits: Any) -> S3Store:
    try:
        return S3Store.from_settings(
            bucket=settings.s3_bucket,
            endpoint_url=settings.s3_endpoint_url,
            region=settings.s3_region,
            addressing_style=settings.s3_addressing_style,
            max_pool_connections=connections,
            **limits,
        )
    except Failure as error:
        raise SettingsError([f"KLING_S3_… or the AWS configuration: {error}"]) from error


def build_spool(settings: Settings, *, has_downloads: bool = True) -> Spool:
    """The spool for downloads of this process and uploads of its clients."""
    return Spool(settings.spool_dir, memory_bytes_max=SPOOL_MEMORY_BYTES_MAX, has_downloads=has_downloads)


def alert_sender(settings: Settings) -> AlertSender:
    """Posts to KLING_ALERT_URL."""
    url = settings.alert_url.get_secret_value() if settings.alert_url else ""
    secrets = [secret.get_secret_value() for secret in settings.alert_secret]
    return AlertSender(url, WebhookSender(proxy=settings.proxy), secrets=secrets)
