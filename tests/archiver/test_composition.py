"""How settings become the engine."""

import contextlib
import pathlib
import threading

import pytest

from archiver.composition import build_engine
from archiver.config.settings import Settings
from archiver.ledger import Ledger
from archiver.metrics import Metrics
from tests.harness.blank_ledger import lay_blank_ledger


def test_doubtful_settings_are_written_into_the_ledger_by_the_first_sign_of_life(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of-no-account")
    settings = Settings.load(
        {
            "KLING_API_KEY": "an-api-key",
            "KLING_BASE_URL": "http://127.0.0.1:9",
            "KLING_CALLBACK_TOKEN": "0123456789abcdef",
            "KLING_S3_BUCKET": "results",
            "KLING_S3_REGION": "eu-central-1",
            "KLING_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db",
            "KLING_FAMILIES": "images/new",
            "KLING_TRANSFER_CONCURRENCY": "1",
        }
    )
    lay_blank_ledger(tmp_path / "ledger.db")
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
