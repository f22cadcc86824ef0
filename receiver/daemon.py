"""The daemon, in each of its roles: starts settings, log, ledger, engine and HTTP server, and stops them in reverse
order.

Once the listener closes, requests and transfers have KLING_SHUTDOWN_SECONDS. Then the engine gives back unfinished
tasks, and the process ends with `os._exit`: Python would otherwise join every thread, and a fetch may take minutes.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Mapping

from archiver import log, lookups
from archiver.composition.accounts import require_account
from archiver.composition.build import build_engine
from archiver.composition.examined import examined
from archiver.composition.running import Engine
from archiver.config import doubts
from archiver.config.roles import ProcessRole
from archiver.config.settings import Settings, SettingsError
from archiver.create.callback_tokens import gateway_token
from archiver.engine.pools import ThreadsRefused
from archiver.failures import LedgerUnavailable
from archiver.ledger import Ledger, LedgerUnfit, LedgerUnusable
from archiver.ledger.databases.opening import is_postgres, name_of, perishable_file
from archiver.metrics import Metrics
from archiver.version import VERSION
from receiver import check
from receiver.app import build_app
from receiver.closing import Closing
from receiver.parts import build_parts
from receiver.server.notify import Supervisor
from receiver.server.server import CannotListen, HttpServer, NoSuchAddress, stop_signals

_NEEDS_POSTGRES = (
    "`{}` works beside other processes, and an SQLite ledger takes one whole daemon: set KLING_LEDGER_URL to "
    "postgresql://user:password@host/database, or start kling-receiver alone"
)


SETTINGS_STATUS = 2
"""The exit status of a daemon that does not start. A supervisor should not try again, because the same settings are
refused again."""
PASSING_STATUS = 1
"""What keeps it from starting may pass without other settings: a server that is down, a full disk, a taken port or
ledger, a folder that is not mounted, a right that is not granted. It should be tried again."""


class Refused(Exception):
    """The daemon does not start; the message says why and what to do, `status` is that of the process."""

    def __init__(self, message: str, *, status: int = SETTINGS_STATUS) -> None:
        super().__init__(message)
        self.status = status


def run(
    environment: Mapping[str, str], *, role: ProcessRole = ProcessRole.WHOLE, is_check: bool = False
) -> int:
    """Run until stopped, or check and end. Returns the exit status: 0 stopped in order or checked, 1 broken.

    Raises:
        Refused: wrong settings, an unusable ledger, a limit of the system.
    """
    lookups.bound_all()
    try:
        settings = Settings.load(environment, need=role.need)
        if role is not ProcessRole.WHOLE and not is_postgres(settings.ledger_url):
            raise Refused(_NEEDS_POSTGRES.format(role.value))
        if is_check:
            return _check(settings, role, environment)
        _configure_log(settings)
        return _run(settings, role, environment)
    except (SettingsError, NoSuchAddress) as error:
        raise Refused(str(error)) from error
    except (CannotListen, ThreadsRefused, LedgerUnfit) as error:
        raise Refused(str(error), status=PASSING_STATUS) from error
    except LedgerUnusable as error:
        raise Refused(str(error)) from error
    except LedgerUnavailable as error:
        raise Refused(f"{error}. {error.what_to_do}", status=PASSING_STATUS) from error


def _check(settings: Settings, role: ProcessRole, environment: Mapping[str, str]) -> int:
    with examined(settings, role, environ=environment, may_write=False) as subject:
        return check.run(subject, secrets=settings.secrets(), write=sys.stdout.write)


def _configure_log(settings: Settings) -> None:
    log.configure(
        format=settings.log_format_at(terminal=sys.stderr.isatty()),
        level=settings.log_level,
        secrets=(*settings.secrets(), *_gateway_tokens(settings)),
    )
    for sentence in doubts.sentences(settings):
        log.get().warning("setting.unknown", message=sentence)
    if path := perishable_file(settings.ledger_url):
        log.get().warning(
            "ledger.unmounted",
            path=str(path),
            what_to_do="The ledger will vanish with this container: mount a volume at its folder (KLING_LEDGER_URL).",
        )


def _gateway_tokens(settings: Settings) -> list[str]:
    return [
        gateway_token(token.get_secret_value())
        for account in settings.accounts
        for token in account.callback_token
    ]


def _run(settings: Settings, role: ProcessRole, environment: Mapping[str, str]) -> int:
    ledger = Ledger.open(settings.ledger_url, daemon=True, direct_url=settings.ledger_listen_url)
    try:
        require_account(ledger, settings)
        if role.works:
            _warn_of_stranded_accounts(settings, ledger)
            # Before any task can end. Only a process that works knows whether forwards are wanted.
            ledger.forwards.set_operator(is_told=settings.forward_url is not None)
        return _serve(settings, ledger, role, environment)
    finally:
        ledger.close()


def _log_start(settings: Settings, role: ProcessRole) -> None:
    """Log the settings of this daemon, for an operator who reads the log from its beginning."""
    families = dict.fromkeys(family for account in settings.accounts for family in account.families)
    of_work = {
        "bucket": settings.s3_bucket,
        "endpoint": settings.s3_endpoint_url,
        "families": list(families),
    }
    log.get().info(
        "daemon.started",
        version=VERSION,
        serves=list(role.serves(settings)),
        ledger=name_of(settings.ledger_url),
        **(of_work if role.works else {}),
        accounts=[account.name for account in settings.accounts],
        public_url=settings.public_url,
    )


def _warn_of_stranded_accounts(settings: Settings, ledger: Ledger) -> None:
    """Warn of accounts that have tasks in the ledger but are not in the settings."""
    known = [account.name for account in settings.accounts]
    ledger.accounts.forget_holds(known=known)
    for account, waiting in ledger.accounts.stranded(known=known).items():
        log.get().warning(
            "account.stranded",
            account=account,
            tasks=waiting,
            what_to_do="Its tasks wait: add the account to [[accounts]] again, or ignore this.",
        )


def _serve(settings: Settings, ledger: Ledger, role: ProcessRole, environment: Mapping[str, str]) -> int:
    metrics = Metrics()
    draining, died = threading.Event(), threading.Event()
    closing = Closing(seconds=settings.shutdown_seconds)

    def die() -> None:
        """A loop of the engine has crashed."""
        died.set()
        server.stop()

    with contextlib.ExitStack() as opened:
        opened.callback(closing.end)  # the last: connections may hang too
        engine = build_engine(settings, ledger, metrics, role=role, stop=closing.begun, on_death=die)
        opened.callback(engine.close)
        server = HttpServer(
            build_app(build_parts(settings, engine, metrics, role=role, draining=draining)),
            host=settings.host,
            port=settings.port,
            metrics_port=settings.metrics_port,
            drain_seconds=settings.drain_seconds,
            shutdown_seconds=settings.shutdown_seconds,
            on_draining=draining.set,
            on_closing=closing.begin,
            supervisor=Supervisor(environment, look=engine.pulses.look, stalled=engine.pulses.vital_stalled),
        )
        for number in stop_signals():  # until the server has handlers of its own
            signal.signal(number, lambda *_: server.stop())
        _log_start(
            settings, role
        )  # not before: if the daemon is refused, its one sentence must be the last line
        engine.start()
        try:
            status = server.run()
        finally:
            ended = _stop(engine, closing)
    status = 1 if died.is_set() else status
    if not ended:
        os._exit(status)
    return status


def _stop(engine: Engine, closing: Closing) -> bool:
    """Ignores further signals. Returns whether all threads of the engine have ended."""
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)
    ended = engine.stop(seconds=closing.seconds_left())
    with contextlib.suppress(LedgerUnavailable):  # then `status` lists this daemon for two minutes
        engine.ledger.daemons.leave(engine.upkeep.daemon_name)
    return ended
