"""The daemon: starts settings, log, ledger, engine and HTTP server, and stops them in reverse order.

Once the listener closes, requests and transfers have KLING_SHUTDOWN_SECONDS. Then the engine gives back unfinished
tasks, and the process ends with `os._exit`: Python would otherwise join every thread, and a fetch may take minutes.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence

from starlette.routing import Route

from archiver import log
from archiver.composition import (
    Engine,
    build_account,
    build_engine,
    build_spool,
    build_store,
    require_account,
)
from archiver.config import doubts
from archiver.config.settings import Settings, SettingsError
from archiver.engine.api_clocks import ApiClocks
from archiver.engine.pools import ThreadsRefused
from archiver.failures import LedgerUnavailable
from archiver.families import FAMILIES
from archiver.ledger import Ledger, LedgerUnusable, unix_ms
from archiver.ledger.databases.opening import name_of, perishable_file
from archiver.metrics import Metrics
from archiver.model import Callback, CallbackOutcome, Stage
from archiver.version import VERSION
from receiver import check
from receiver.api.tasks import Api
from receiver.app import AppParts, build_app
from receiver.callbacks.endpoint import CallbackEndpoint
from receiver.callbacks.intake import Intake
from receiver.callbacks.signatures import Signatures
from receiver.server.server import CannotListen, HttpServer, stop_signals

WAITING_MAX = 4096
"""Callbacks waiting for a commit; further ones get 503."""


class Refused(Exception):
    """The daemon does not start; the message says why and what to do."""


def run(environment: Mapping[str, str], *, is_check: bool) -> int:
    """Run until stopped, or check and end. Returns the exit status: 0 stopped in order or checked, 1 broken.

    Raises:
        Refused: wrong settings, an unusable ledger, a limit of the system.
    """
    try:
        settings = Settings.load(environment)
        if is_check:
            return _check(settings)
        _configure_log(settings)
        return _run(settings)
    except (SettingsError, LedgerUnusable, CannotListen, ThreadsRefused) as error:
        raise Refused(str(error)) from error
    except LedgerUnavailable as error:
        raise Refused(f"{error}. {error.what_to_do}") from error


def _check(settings: Settings) -> int:
    with contextlib.ExitStack() as opened:
        accounts = [
            build_account(account, Metrics(), stop=threading.Event()) for account in settings.accounts
        ]
        for account in accounts:
            opened.callback(account.client.close)
        checked = check.Checked(
            doubts=doubts.sentences(settings),
            ledger_url=settings.ledger_url,
            spool=build_spool(settings),
            accounts=accounts,
            bucket=settings.s3_bucket,
            store=build_store(settings),
        )
        return check.run(checked, write=sys.stdout.write)


def _configure_log(settings: Settings) -> None:
    log.configure(
        format=settings.log_format_at(terminal=sys.stderr.isatty()),
        level=settings.log_level,
        secrets=settings.secrets(),
    )
    for sentence in doubts.sentences(settings):
        log.get().warning("setting.unknown", message=sentence)
    if path := perishable_file(settings.ledger_url):
        log.get().warning(
            "ledger.unmounted",
            path=str(path),
            what_to_do="The ledger will vanish with this container: mount a volume at its folder (KLING_LEDGER_URL).",
        )


def _run(settings: Settings) -> int:
    ledger = Ledger.open(settings.ledger_url, daemon=True)
    try:
        require_account(ledger, settings)
        _warn_of_stranded_accounts(settings, ledger)
        return _serve(settings, ledger)
    finally:
        ledger.close()


def _log_start(settings: Settings) -> None:
    """What this daemon works with, for whoever reads the log from its beginning."""
    log.get().info(
        "daemon.started",
        version=VERSION,
        ledger=name_of(settings.ledger_url),
        bucket=settings.s3_bucket,
        endpoint=settings.s3_endpoint_url,
        accounts=[account.name for account in settings.accounts],
        families=list(dict.fromkeys(family for account in settings.accounts for family in account.families)),
        public_url=settings.public_url,
    )


def _warn_of_stranded_accounts(settings: Settings, ledger: Ledger) -> None:
    """They have tasks in the ledger but no settings."""
    known = [account.name for account in settings.accounts]
    ledger.accounts.forget_holds(known=known)
    for account, waiting in ledger.accounts.stranded(known=known).items():
        log.get().warning(
            "account.stranded",
            account=account,
            tasks=waiting,
            what_to_do="Its tasks wait: add the account to [[accounts]] again, or ignore this.",
        )


def _serve(settings: Settings, ledger: Ledger) -> int:
    metrics = Metrics()
    draining, died = threading.Event(), threading.Event()
    closing = _Closing(seconds=settings.shutdown_seconds)

    def die() -> None:
        """A loop of the engine has crashed."""
        died.set()
        server.stop()

    with contextlib.ExitStack() as opened:
        engine = build_engine(settings, ledger, metrics, stop=closing.begun, on_death=die)
        opened.callback(engine.close)
        server = HttpServer(
            build_app(_parts(settings, engine, metrics, draining)),
            host=settings.host,
            port=settings.port,
            drain_seconds=settings.drain_seconds,
            shutdown_seconds=settings.shutdown_seconds,
            on_draining=draining.set,
            on_closing=closing.begin,
        )
        for number in stop_signals():  # until the server has handlers of its own
            signal.signal(number, lambda *_: server.stop())
        _log_start(settings)  # not before: a daemon that is refused has one sentence, and it is the last
        engine.start()
        try:
            status = server.run()
        finally:
            ended = _stop(engine, closing)
    status = 1 if died.is_set() else status
    if not ended:
        os._exit(status)
    return status


class _Closing:
    """The end of the process: begins once, then lasts at most `seconds`."""

    def __init__(self, *, seconds: float) -> None:
        self.begun = threading.Event()
        self._seconds = seconds
        self._until = 0.0

    def begin(self) -> None:
        if not self.begun.is_set():
            self._until = time.monotonic() + self._seconds
            self.begun.set()

    def seconds_left(self) -> float:
        self.begin()
        return max(0.0, self._until - time.monotonic())


def _stop(engine: Engine, closing: _Closing) -> bool:
    """Ignores further signals. Returns whether all threads of the engine have ended."""
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)
    ended = engine.stop(seconds=closing.seconds_left())
    with contextlib.suppress(LedgerUnavailable):  # then `status` lists this daemon for two minutes
        engine.ledger.daemons.leave(engine.upkeep.daemon_name)
    return ended


def _parts(settings: Settings, engine: Engine, metrics: Metrics, draining: threading.Event) -> AppParts:
    ledger = engine.ledger

    def record(callbacks: Sequence[Callback]) -> list[CallbackOutcome]:
        outcomes = ledger.callbacks.record(callbacks)
        engine.wake(Stage.VERIFY, {callback.account for callback in callbacks})
        return outcomes

    intake = Intake(record, waiting_max=WAITING_MAX)
    callbacks = CallbackEndpoint(
        intake=intake,
        tokens={
            token.get_secret_value(): account.name
            for account in settings.accounts
            for token in account.callback_token
        },
        signatures={
            account.name: _signatures(account, engine.health.clocks) for account in settings.accounts
        },
        families=FAMILIES,
        body_bytes_max=settings.callback_bytes_max,
        metrics=metrics,
    )
    return AppParts(
        callbacks=callbacks,
        intake=intake,
        metrics=metrics,
        draining=draining.is_set,
        probe=ledger.daemons.ping,
        degraded=engine.health.degraded,
        refresh_metrics=engine.health.refresh_gauges,
        routes=_api(settings, engine),
    )


def _api(settings: Settings, engine: Engine) -> list[Route]:
    if settings.admin_token is None:
        return []
    api = Api(
        engine.ledger.registrations,
        engine.ledger.views,
        token=settings.admin_token.get_secret_value(),
        accounts=[account.name for account in settings.accounts],
        now=unix_ms,
        on_registered=lambda account: engine.wake(Stage.VERIFY, [account]),
    )
    return api.routes()


def _signatures(account: Settings, clocks: ApiClocks) -> Signatures:
    return Signatures(
        [secret.get_secret_value() for secret in account.signing_secret],
        required=account.signature == "required",
        skew_ms=lambda: clocks.skew_ms(account.name),
    )
