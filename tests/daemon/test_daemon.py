"""The whole daemon as a process: from a callback, or from none, to the manifest; how it starts, refuses and leaves."""

import pathlib
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator, Mapping

import httpx2
import pytest

from tests.harness.daemons import FAMILY, PATIENCE_SECONDS, TOKEN, Site, until
from tests.s3_servers import FaultyProxy, S3Server, faulty
from tests.simulator import faults

SECRETS = ("SKsimulated", "testSecretKey", TOKEN)


@pytest.fixture
def site(tmp_path: pathlib.Path, rclone_server: S3Server) -> Iterator[Site]:
    with Site(tmp_path, rclone_server) as made:
        yield made


# --- the main path ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["rclone_server", "swift_server"])
def test_a_callback_becomes_images_and_then_a_manifest(
    tmp_path: pathlib.Path, request: pytest.FixtureRequest, server: str
) -> None:
    with Site(tmp_path, request.getfixturevalue(server)) as site:
        daemon = site.start()
        daemon.wait_ready()
        task_id = site.sim.create_task(images=2, watermark=True, callback_url=site.callback_url)
        site.sim.process(task_id)
        site.sim.succeed(task_id)
        site.wait_archived(task_id)
        until(lambda: len(site.sim.deliveries) == 2, what="both callbacks to be delivered")

        assert daemon.stop() == 0
        site.assert_archived(task_id)
        assert {delivery.http_status for delivery in site.sim.deliveries} == {200}
        assert site.sim.complaints == []
        assert list(site.spool.iterdir()) == []
        site.assert_silent_on_secrets()


def test_an_account_with_history_is_archived_without_a_single_callback(site: Site) -> None:
    ids = [site.sim.create_task(images=2, status="succeed") for _ in range(5)]
    site.sim.create_task(status="failed")
    daemon = site.start()
    site.wait_archived(*ids)

    assert daemon.stop() == 0
    site.assert_archived(*ids)
    site.assert_silent_on_secrets()


def test_a_callback_that_never_came_is_made_good_by_the_next_sweep(site: Site) -> None:
    daemon = site.start({"KLING_SWEEP_INTERVAL_SECONDS": "1"})
    daemon.wait_ready()
    until(lambda: daemon.events("sweep.finished"), what="the first sweep")
    task_id = site.create_task()
    site.wait_archived(task_id)

    until(lambda: daemon.events("callbacks.missed"), what="the count of missed callbacks")
    assert daemon.stop() == 0


def test_what_upstream_has_failed_leaves_nothing_in_the_bucket(site: Site) -> None:
    daemon = site.start()
    daemon.wait_ready()
    task_id = site.sim.create_task(callback_url=site.callback_url)
    site.sim.fail(task_id, "policy")
    until(lambda: (site.show(task_id) or {}).get("state") == "failed", what="the verdict")

    shown = site.show(task_id)
    assert shown is not None
    assert (shown["message"], site.keys()) == ("policy", set())
    assert daemon.stop() == 0


def test_nothing_that_is_secret_is_logged_whatever_goes_wrong(site: Site) -> None:
    sim = site.sim
    sim.fault("cdn", faults.Raw(403), times=1)
    sim.fault("cdn", faults.Cut(), times=1)
    sim.fault("cdn", faults.Redirect("https://user:pw@example.invalid/0.png?Signature=abc"), times=1)
    sim.fault(
        "query", faults.ErrorCode(401, 1003, "token eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJBSyJ9.sig"), times=1
    )
    sim.fault("query", faults.Html(502), times=1)
    ids = [site.create_task(images=2) for _ in range(3)]
    daemon = site.start()
    daemon.wait_ready()
    wrong = httpx2.post(
        f"{daemon.url}/callbacks/{TOKEN}x/{FAMILY}", json={}, trust_env=False, timeout=PATIENCE_SECONDS
    )
    malformed = httpx2.post(
        site.callback_url, content=b"{" + TOKEN.encode(), trust_env=False, timeout=PATIENCE_SECONDS
    )
    for task_id in ids:
        assert site.call_back(task_id) == 200
    site.wait_archived(*ids)

    assert (wrong.status_code, malformed.status_code) == (404, 400)
    assert daemon.stop() == 0
    site.assert_silent_on_secrets()


# --- starting ---------------------------------------------------------------------------------------------------


def refused(
    site: Site, changes: Mapping[str, str], *, without: tuple[str, ...] = (), expected_status: int = 2
) -> str:
    """What a daemon says that will not start with these settings."""
    daemon = site.start(changes, without=without)
    status = daemon.wait()

    assert (status, daemon.output.count("Traceback")) == (expected_status, 0), daemon.output
    assert daemon.output.startswith("kling-receiver: ")
    assert [secret for secret in SECRETS if secret in daemon.output] == []
    return daemon.output


def test_all_problems_with_the_settings_are_reported_at_once(site: Site) -> None:
    said = refused(
        site,
        {
            "KLING_PORT": "http",
            "KLING_ASSET_HOSTS": "https://",
            "KLING_LEDGER_URL": "mysql://root:hunter2secret@db/x",
        },
        without=("KLING_S3_BUCKET", "KLING_CALLBACK_TOKEN", "KLING_ACCESS_KEY"),
    )

    for name in (
        "KLING_S3_BUCKET",
        "KLING_CALLBACK_TOKEN",
        "KLING_ACCESS_KEY",
        "KLING_PORT",
        "KLING_ASSET_HOSTS",
        "KLING_LEDGER_URL",
    ):
        assert name in said
    assert "hunter2secret" not in said
    assert "6 problems" in said


@pytest.mark.parametrize(
    "changes",
    [
        {"KLING_SECRET_KEY": "SKsimulated with a space"},
        {"KLING_SECRET_KEY": "SKsimulated-ü"},
        {"KLING_S3_ENDPOINT_URL": "http://[::1"},
        {"KLING_S3_BUCKET": "Not/A Bucket"},
        {"AWS_PROFILE": "nobody"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_setting_that_cannot_be_used_is_a_sentence(site: Site, changes: dict[str, str]) -> None:
    assert len(refused(site, changes).splitlines()) <= 3


def test_a_second_daemon_on_the_same_ledger_is_refused_and_the_first_one_unharmed(site: Site) -> None:
    first = site.start()
    first.wait_ready()

    assert "a kling-receiver already works on the ledger" in refused(
        site, {"KLING_PORT": "0"}, expected_status=1
    )
    assert first.readyz() is not None
    assert first.stop() == 0
    again = site.start()
    again.wait_ready()
    assert again.stop() == 0


def test_a_port_in_use_is_a_sentence_and_leaves_the_ledger_free(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1:{port}" in refused(
            site, {"KLING_PORT": port}, expected_status=1
        ), "it may be free in a moment"
    daemon = site.start()
    daemon.wait_ready()

    assert daemon.stop() == 0


@pytest.mark.parametrize("kind", ["text", "foreign database", "half a database", "folder", "no folder"])
def test_a_ledger_that_is_none_is_a_sentence_and_stays_as_it_is(site: Site, kind: str) -> None:
    path = site.folder / "strange.db"
    match kind:
        case "text":
            path.write_text("these are somebody's notes\n" * 50)
        case "foreign database":
            with sqlite3.connect(path) as connection:
                connection.execute("PRAGMA application_id=1234")
                connection.execute("CREATE TABLE theirs (x)")
            connection.close()
        case "half a database":
            path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
        case "folder":
            path.mkdir()
        case _:
            path = site.folder / "nowhere" / "ledger.db"
    before = path.read_bytes() if path.is_file() else None

    named = path if path.parent.is_dir() else path.parent
    # An operator who restores a copy, or mounts the folder, need not start the daemon as well.
    status = 1 if kind in {"half a database", "no folder"} else 2
    assert str(named) in refused(site, {"KLING_LEDGER_URL": f"sqlite:///{path}"}, expected_status=status)
    assert (path.read_bytes() if path.is_file() else None) == before


# --- leaving ----------------------------------------------------------------------------------------------------


def test_it_says_that_it_is_leaving_before_it_closes_the_door_and_takes_callbacks_until_then(
    site: Site,
) -> None:
    supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    supervisor.settimeout(PATIENCE_SECONDS)
    supervisor.bind(f"{site.folder}/notify")
    daemon = site.start({"KLING_DRAIN_SECONDS": "3600", "NOTIFY_SOCKET": f"{site.folder}/notify"})
    assert supervisor.recv(100) == b"READY=1"
    daemon.wait_ready()
    task_id = site.create_task()
    daemon.terminate()
    assert supervisor.recv(100) == b"STOPPING=1"
    supervisor.close()
    until(lambda: (daemon.readyz() or (0, {}))[0] == 503, what="/readyz to say so")

    assert site.call_back(task_id) == 200
    daemon.terminate()  # ends the drain
    until(lambda: daemon.readyz() is None, what="the door to close")
    assert daemon.wait() == 0
    shown = site.show(task_id)
    assert shown is not None
    assert shown["callbacks"] == 1


def test_work_that_does_not_end_in_time_is_given_back_and_the_stop_does_not_wait(site: Site) -> None:
    # Two minutes of a byte now and then: longer than anybody waits here.
    site.sim.fault("cdn", faults.Drip(piece_bytes=1, pause_seconds=0.5))
    daemon = site.start({"KLING_SHUTDOWN_SECONDS": "1"})
    daemon.wait_ready()
    ids = [site.create_task() for _ in range(3)]
    for task_id in ids:
        assert site.call_back(task_id) == 200
    until(lambda: site.sim.requests["cdn"] == 3, what="all fetches to begin")
    daemon.terminate()

    assert daemon.wait() == 0
    for task_id in ids:
        shown = site.show(task_id)
        assert shown is not None
        assert (shown["state"], shown["attempts"]) == ("succeeded", 0)
    site.sim.clear_faults()
    daemon = site.start()
    site.wait_archived(*ids)
    assert daemon.stop() == 0
    site.assert_archived(*ids)
    site.assert_silent_on_secrets()


def test_a_hanging_store_does_not_delay_the_stop_either(
    tmp_path: pathlib.Path, rclone_server: S3Server
) -> None:
    released, arrived = threading.Event(), threading.Event()

    def hang(_: faulty.Exchange) -> None:
        arrived.set()
        released.wait(120)

    with FaultyProxy(rclone_server.port).serving() as proxy, Site(tmp_path, rclone_server) as site:
        proxy.on("PUT", hang)
        daemon = site.start({"KLING_SHUTDOWN_SECONDS": "1", "KLING_S3_ENDPOINT_URL": proxy.endpoint_url})
        daemon.wait_ready()
        task_id = site.create_task()
        site.call_back(task_id)
        assert arrived.wait(PATIENCE_SECONDS)
        daemon.terminate()
        try:
            assert daemon.wait() == 0
        finally:
            released.set()
        shown = site.show(task_id)
        assert shown is not None
        assert (shown["state"], shown["attempts"], site.keys()) == ("succeeded", 0, set())


def test_work_that_ends_in_time_is_finished(site: Site) -> None:
    site.sim.fault("cdn", faults.Drip(piece_bytes=1000, pause_seconds=0.5), times=1)
    daemon = site.start()
    daemon.wait_ready()
    task_id = site.create_task()
    site.call_back(task_id)
    until(lambda: site.sim.requests["cdn"] == 1, what="the fetch to begin")

    assert daemon.stop() == 0
    site.assert_archived(task_id)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_impatient_operator_gets_no_traceback(site: Site, number: signal.Signals) -> None:
    site.sim.fault("cdn", faults.Drip(piece_bytes=1, pause_seconds=0.5))
    daemon = site.start({"KLING_DRAIN_SECONDS": "60", "KLING_SHUTDOWN_SECONDS": "2"})
    daemon.wait_ready()
    task_id = site.create_task()
    site.call_back(task_id)
    until(lambda: site.sim.requests["cdn"] == 1, what="the fetch to begin")
    daemon.send_signal(number)
    until(lambda: (daemon.readyz() or (0, {}))[0] == 503, what="/readyz to say so")
    daemon.send_signal(number)
    until(lambda: daemon.events("daemon.stopped"), what="the server to stop")
    daemon.send_signal(number)

    assert daemon.wait() == 0
    site.assert_silent_on_secrets()


def test_a_daemon_that_leaves_is_no_longer_listed(site: Site) -> None:
    daemon = site.start()
    daemon.wait_ready()

    def listed() -> int:
        with site.ledger() as ledger:
            return len(ledger.views.status().alive_daemons)

    until(lambda: listed() == 1, what="its sign of life")
    daemon.stop()
    assert listed() == 0


def test_the_log_ends_with_the_stop(site: Site) -> None:
    daemon = site.start()
    daemon.wait_ready()
    daemon.stop()

    assert [bool(daemon.events(f"daemon.{what}")) for what in ("started", "draining", "stopped")] == [
        True
    ] * 3
