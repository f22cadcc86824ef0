"""How settings become the engine."""

import contextlib
import pathlib
import threading
import time

import pytest

from archiver.composition.build import build_engine
from archiver.config.roles import ProcessRole
from archiver.config.settings import Settings
from archiver.fetch.spool import MEMORY_EACH_MAX
from archiver.ledger import AlertMessage, Ledger, unix_ms
from archiver.metrics import Metrics
from archiver.model import Stage
from archiver.pulses import watch
from receiver.parts import build_parts
from tests.harness.blank_ledger import lay_blank_ledger
from tests.harness.consumer import SECRET, consumer
from tests.harness.gateway import APPLICATION, GATEWAY_KEY


def settings_in(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, **changes: str) -> Settings:
    """Settings of an unreachable API, with an empty ledger."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of-no-account")
    lay_blank_ledger(folder / "ledger.db")
    return Settings.load(
        {
            "KLING_API_KEY": "an-api-key",
            "KLING_BASE_URL": "http://127.0.0.1:9",
            "KLING_CALLBACK_TOKEN": "0123456789abcdef",
            "KLING_S3_BUCKET": "results",
            "KLING_S3_REGION": "eu-central-1",
            "KLING_LEDGER_URL": f"sqlite:///{folder}/ledger.db",
            "KLING_TRANSFER_CONCURRENCY": "1",
            **changes,
        }
    )


def test_doubtful_settings_are_written_into_the_ledger_by_the_first_sign_of_life(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(tmp_path, monkeypatch, KLING_FAMILIES="images/new")
    stop = threading.Event()
    with contextlib.closing(Ledger.open(settings.ledger_url, daemon=True)) as ledger:
        engine = build_engine(settings, ledger, Metrics(), stop=stop, on_death=stop.set)
        with contextlib.closing(engine):
            engine.upkeep.run_once()
        (daemon,) = ledger.daemons.alive()

    (warning,) = (found for found in daemon.warnings if "images/new" in found.message)
    assert (warning.code, warning.account) == ("settings", None)
    assert "KLING_FAMILIES" in warning.message
    assert warning.what_to_do


def test_a_thread_that_hangs_is_a_problem_of_the_process_and_what_healthz_says(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(tmp_path, monkeypatch)
    monkeypatch.setattr(watch, "LIMITS", {**watch.LIMITS, "transfer": watch.Limit(-1.0, Stage.ARCHIVE)})
    stop, metrics = threading.Event(), Metrics()
    with contextlib.closing(Ledger.open(settings.ledger_url, daemon=True)) as ledger:
        engine = build_engine(settings, ledger, metrics, stop=stop, on_death=stop.set)
        parts = build_parts(settings, engine, metrics, role=ProcessRole.WHOLE, draining=stop)
        with contextlib.closing(engine), engine.pulses.watched("transfer", account="default"):
            engine.pulses.look()
            stalled = parts.stalled()
            engine.upkeep.run_once()
        (daemon,) = ledger.daemons.alive()

    assert stalled == ["transfer"]
    (found,) = (warning for warning in daemon.warnings if warning.reason == "loop_stalled")
    assert (found.code, found.stage, found.account) == ("hold", "archive", "default")


@pytest.mark.parametrize(("role", "uploads"), [(ProcessRole.WHOLE, 4), (ProcessRole.GATEWAY, 8)])
def test_uploads_leave_half_of_the_spool_to_downloads_only_where_the_process_downloads(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, role: ProcessRole, uploads: int
) -> None:
    settings = settings_in(
        tmp_path,
        monkeypatch,
        KLING_SPOOL_DIR=str(tmp_path / "spool"),
        KLING_GATEWAY="on",
        KLING_GATEWAY_KEY=f"{APPLICATION}:{GATEWAY_KEY}",
        KLING_LINK_SECRET="k7" * 16,
        KLING_PUBLIC_URL="https://kling.example.com",
    )
    stop = threading.Event()
    with contextlib.ExitStack() as opened:
        ledger = opened.enter_context(contextlib.closing(Ledger.open(settings.ledger_url, daemon=True)))
        engine = build_engine(settings, ledger, Metrics(), role=role, stop=stop, on_death=stop.set)
        opened.enter_context(contextlib.closing(engine))
        assert engine.spool is not None
        reserved = [
            opened.enter_context(engine.spool.reserve(MEMORY_EACH_MAX, is_upload=True)) for _ in range(8)
        ]

        assert sum(upload.is_in_memory for upload in reserved) == uploads


def test_an_alert_consumer_that_hangs_delays_neither_the_work_nor_the_stop(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, asked, gone = threading.Event(), threading.Event(), threading.Event()

    def hang(_: object) -> None:
        asked.set()
        gone.wait(300)

    with consumer() as hook:
        hook.answer = hang
        settings = settings_in(tmp_path, monkeypatch, KLING_ALERT_URL=hook.url, KLING_ALERT_SECRET=SECRET)
        with contextlib.closing(Ledger.open(settings.ledger_url, daemon=True)) as ledger:
            now = unix_ms()
            ledger.alerts.save(
                [], [AlertMessage("alrt_1", "hold", "{}", made_at=now, due_at=now, attempts=0)]
            )
            engine = build_engine(settings, ledger, Metrics(), stop=stop, on_death=stop.set)
            with contextlib.closing(engine):
                engine.start()
                assert asked.wait(60)
                engine.upkeep.run_once()
                began = time.monotonic()
                engine.stop(seconds=120)
                assert time.monotonic() - began < 60
        gone.set()
        assert [headers["webhook-id"] for headers, _ in hook.requests] == ["alrt_1"]
