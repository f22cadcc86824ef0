"""Outages and wrong settings, one function each, and what has to be said of them.

Each is set up on a site of its own before its daemon starts, or begins once the daemon is well.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import signal
import socket
from collections.abc import Callable, Sequence

from tests.harness.daemons import FAMILY, Daemon, Site
from tests.harness.disks import fill, small_disk
from tests.postgres import PostgresServer
from tests.s3_servers import FaultyProxy, faulty
from tests.s3_servers.process import free_port
from tests.simulator import faults

Begin = Callable[[Daemon], object]


@dataclasses.dataclass(frozen=True, slots=True)
class Said:
    """The problem that has to be shown: its code, of a hold its reason, and words of what to do."""

    code: str
    reason: str = ""
    advice: str = ""


@dataclasses.dataclass
class Stage:
    """A site on which a trouble is set up; what it opened is closed with `opened`."""

    site: Site
    opened: contextlib.ExitStack
    server: PostgresServer | None = None
    """Which has the site's ledger, if it is on PostgreSQL."""
    prefix: Sequence[str] = ()
    without: tuple[str, ...] = ()
    begin: Begin | None = None
    """Makes the trouble once the daemon is ready; None: it is there from the start."""

    @functools.cached_property
    def proxy(self) -> FaultyProxy:
        """Stands between the daemon and the store."""
        proxy = self.opened.enter_context(FaultyProxy(self.site.s3.port).serving())
        self.site.environment["KLING_S3_ENDPOINT_URL"] = proxy.endpoint_url
        return proxy

    def set(self, **settings: str) -> None:
        self.site.environment.update(settings)

    def later(self, begin: Callable[[], object]) -> None:
        self.begin = lambda _daemon: begin()

    def tmpfs(self, name: str, megabytes: int) -> pathlib.Path:
        """A small file system. Raises CalledProcessError where none can be mounted."""
        folder = self.site.folder / name
        folder.mkdir(exist_ok=True)
        self.opened.enter_context(small_disk(folder, megabytes=megabytes))
        return folder


@dataclasses.dataclass(frozen=True, slots=True)
class Trouble:
    """One outage or wrong setting."""

    name: str
    arrange: Callable[[Stage], object]
    said: Said
    has_task: bool = True
    """Whether a callback comes in; else the account stays empty."""
    has_door: bool = True
    """Whether a daemon is left that answers `/readyz`."""
    seconds_max: int = 60


# --- the store ------------------------------------------------------------------------------------------------


def closed_store(stage: Stage) -> None:
    stage.set(KLING_S3_ENDPOINT_URL=f"http://127.0.0.1:{free_port()}")


def store_without_name(stage: Stage) -> None:
    stage.set(KLING_S3_ENDPOINT_URL="http://store.invalid")


def bucket_in_path(stage: Stage) -> None:
    stage.set(KLING_S3_ENDPOINT_URL=f"{stage.site.s3.endpoint_url}/{stage.site.bucket}")


def refused_puts(status: int, code: str) -> Callable[[Stage], None]:
    return lambda stage: stage.proxy.on("PUT", faulty.answering(status, code))


def store_gone_later(stage: Stage) -> None:
    proxy = stage.proxy

    def begin() -> None:
        proxy.rule = lambda _: faulty.answering(503, "SlowDown")

    stage.later(begin)


def no_bucket(stage: Stage) -> None:
    stage.set(KLING_S3_BUCKET="no-such-bucket")


def no_credentials(stage: Stage) -> None:
    stage.without = tuple(name for name in stage.site.environment if name.startswith("AWS_"))
    stage.set(AWS_EC2_METADATA_DISABLED="true", HOME=str(stage.site.folder))


def wrong_credentials(stage: Stage) -> None:
    stage.set(AWS_SECRET_ACCESS_KEY="not-the-secret-key-of-this-store")


# --- the API --------------------------------------------------------------------------------------------------


def closed_api(stage: Stage) -> None:
    stage.set(KLING_BASE_URL=f"http://127.0.0.1:{free_port()}")


def api_without_name(stage: Stage) -> None:
    stage.set(KLING_BASE_URL="https://api.invalid")


def failing_api(fault: faults.Fault) -> Callable[[Stage], None]:
    def arrange(stage: Stage) -> None:
        for endpoint in ("query", "list"):
            stage.site.sim.fault(endpoint, fault)

    return arrange


def api_gone_later(stage: Stage) -> None:
    stage.later(lambda: failing_api(faults.Raw(502, b"<html>Bad gateway</html>"))(stage))


def hanging_api_later(stage: Stage) -> None:
    stage.later(lambda: failing_api(faults.Hang())(stage))


def api_not_found_later(stage: Stage) -> None:
    """The API has answered well before."""

    def begin() -> None:
        first = stage.site.create_task()
        stage.site.call_back(first)
        stage.site.wait_archived(first)
        failing_api(faults.Html(404))(stage)

    stage.later(begin)


def wrong_keys(stage: Stage) -> None:
    stage.set(KLING_SECRET_KEY="the-secret-key-of-another-region")


def undated_api(stage: Stage) -> None:
    stage.site.sim.switches.answers_dated = False


# --- the CDN --------------------------------------------------------------------------------------------------


def unlisted_host(stage: Stage) -> None:
    stage.site.sim.switches.cdn_origin = "https://results.example.com"


def fake_dns(stage: Stage) -> None:
    """A proxy's DNS answers every name with an address of 198.18/15."""
    hosts = stage.site.folder / "hosts"
    hosts.write_text("127.0.0.1 localhost\n198.18.0.7 cdn.klingai.com\n")
    stage.site.sim.switches.cdn_origin = "https://cdn.klingai.com"
    stage.set(KLING_ASSET_HOSTS="klingai.com")
    script = 'mount --bind "$0" /etc/hosts && exec "$@"'
    stage.prefix = ["unshare", "--mount", "sh", "-c", script, str(hosts)]


def forbidding_cdn(stage: Stage) -> None:
    stage.site.sim.fault("cdn", faults.Raw(403))


# --- the machine, the daemon and its settings -----------------------------------------------------------------


def silent_name_servers(network: str) -> Callable[[Stage], None]:
    """Three in `network` that never answer, and a search list: the system keeps one look-up for a minute."""
    servers = [f"{network}.{number}" for number in (1, 2, 3)]

    def arrange(stage: Stage) -> None:
        for server in servers:
            silent = stage.opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            silent.bind((server, 53))
        resolv = stage.site.folder / "resolv.conf"
        lines = [f"nameserver {server}\n" for server in servers]
        resolv.write_text("".join([*lines, "search a.example.com b.example.com c.example.com\n"]))
        stage.set(KLING_BASE_URL="https://api.example.com", KLING_S3_ENDPOINT_URL="http://s3.example.com")
        script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        stage.prefix = ["unshare", "--mount", "sh", "-c", script, str(resolv)]

    return arrange


def full_ledger(stage: Stage) -> None:
    disk = stage.tmpfs("ledger-disk", 16)
    stage.set(KLING_LEDGER_URL=f"sqlite:///{disk}/ledger.db")
    stage.later(lambda: fill(disk))


def full_spool(stage: Stage) -> None:
    stage.site.sim.switches.image_size = (1280, 1280)
    disk = stage.tmpfs("spool-disk", 48)
    stage.set(KLING_SPOOL_DIR=str(disk))
    stage.later(lambda: fill(disk))


def killed(stage: Stage) -> None:
    stage.begin = lambda daemon: daemon.kill()


def stopped(stage: Stage) -> None:
    """Still there, and silent."""
    stage.begin = lambda daemon: os.kill(daemon.pid, signal.SIGSTOP)


def unknown_family(stage: Stage) -> None:
    stage.set(KLING_FAMILIES=f"{FAMILY},images/not-yet-invented")


def plain_public_url(stage: Stage) -> None:
    stage.set(KLING_PUBLIC_URL="http://kling.example.com")


HOLD = "hold"
SILENT_SECONDS = 130
"""A daemon that has not beaten for two minutes counts as dead."""
TROUBLES: Sequence[Trouble] = (
    Trouble("store: nobody listens", closed_store, Said(HOLD, "store_unreachable")),
    Trouble(
        "store: nobody listens, empty account", closed_store, Said(HOLD, "store_unreachable"), has_task=False
    ),
    Trouble("store: its name does not resolve", store_without_name, Said(HOLD, "store_unreachable")),
    Trouble("store: the bucket in the endpoint's path", bucket_in_path, Said(HOLD)),
    Trouble(
        "store: every put 400, KMS",
        refused_puts(400, "KMS.DisabledException"),
        Said(HOLD, "store_encryption_refused"),
    ),
    Trouble("store: every put 405", refused_puts(405, "MethodNotAllowed"), Said(HOLD, "store_refused")),
    Trouble("store: every put 403", refused_puts(403, "AccessDenied"), Said(HOLD, "bucket_forbidden")),
    Trouble("store: fails from some moment on", store_gone_later, Said(HOLD)),
    Trouble("store: no bucket, empty account", no_bucket, Said(HOLD, "bucket_missing"), has_task=False),
    Trouble(
        "store: no credentials, empty account",
        no_credentials,
        Said(HOLD, "store_credentials_missing"),
        has_task=False,
    ),
    Trouble("store: wrong credentials, empty account", wrong_credentials, Said(HOLD), has_task=False),
    Trouble("API: nobody listens", closed_api, Said(HOLD, "api_unreachable")),
    Trouble("API: nobody listens, empty account", closed_api, Said(HOLD, "api_unreachable"), has_task=False),
    Trouble("API: its name does not resolve", api_without_name, Said(HOLD, "api_unreachable")),
    Trouble("API: 500 to everything", failing_api(faults.server_error()), Said(HOLD)),
    Trouble("API: HTML to everything", failing_api(faults.Raw(200, b"<html>login</html>")), Said(HOLD)),
    Trouble("API: 404 to everything, a wrong path or host", failing_api(faults.Html(404)), Said(HOLD)),
    Trouble("API: 404 to everything from some moment on", api_not_found_later, Said(HOLD)),
    Trouble("API: fails from some moment on", api_gone_later, Said(HOLD)),
    Trouble("API: accepts, and never answers", failing_api(faults.Hang()), Said(HOLD)),
    Trouble("API: never answers from some moment on", hanging_api_later, Said(HOLD)),
    Trouble(
        "API: wrong keys, empty account", wrong_keys, Said(HOLD, "api_credentials_refused"), has_task=False
    ),
    Trouble("API: no Date in its answers", undated_api, Said("settings")),
    Trouble("CDN: a host that is not listed", unlisted_host, Said(HOLD, "asset_host_unlisted")),
    Trouble("CDN: names resolve to 198.18/15", fake_dns, Said(HOLD, "asset_address_refused")),
    Trouble("CDN: 403 to everything", forbidding_cdn, Said(HOLD, "host_refusing")),
    Trouble("machine: the ledger's disk is full", full_ledger, Said("door_closed")),
    Trouble("machine: the spool's disk is full", full_spool, Said(HOLD, "spool_full")),
    Trouble(
        "machine: no name server answers, the API",
        silent_name_servers("127.0.7"),
        Said(HOLD, "api_unreachable"),
    ),
    Trouble(
        "machine: no name server answers, the store",
        silent_name_servers("127.0.8"),
        Said(HOLD, "store_unreachable"),
    ),
    Trouble("daemon: killed", killed, Said("no_worker"), has_task=False, has_door=False),
    Trouble(
        "daemon: stopped by a signal", stopped, Said("no_worker"), False, False, seconds_max=SILENT_SECONDS
    ),
    Trouble("settings: an unknown family", unknown_family, Said("settings"), has_task=False),
    Trouble("settings: plain http in public", plain_public_url, Said("settings"), has_task=False),
)
