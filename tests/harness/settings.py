"""Settings that are enough to start, and the problems of those that are not."""

import base64
import pathlib
from collections.abc import Mapping

import pytest

from archiver.config.settings import EVERYTHING, Need, Settings, SettingsError

TOKEN = "a-token-of-24-characters"
LINK_SECRET = "a-link-secret-of-at-least-32-characters"
KEY = "key-of-an-application-0123456789"
WHSEC = "whsec_" + base64.b64encode(b"testsecrettestsecrettestsecret12").decode()
ENOUGH = {
    "KLING_ACCESS_KEY": "ak-visible-0001",
    "KLING_SECRET_KEY": "sk-hidden-0002",
    "KLING_CALLBACK_TOKEN": TOKEN,
    "KLING_S3_BUCKET": "results",
}


def load(**more: str) -> Settings:
    """Settings from a sufficient environment and `more`, whose names lack the prefix."""
    return Settings.load(ENOUGH | {f"KLING_{name}": value for name, value in more.items()})


def problems(environ: Mapping[str, str], *need: Need) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ, need=need or EVERYTHING)
    return caught.value.problems


def problem(**more: str) -> str:
    """The one problem of a sufficient environment with `more`."""
    (only,) = problems(ENOUGH | {f"KLING_{name}": value for name, value in more.items()})
    return only


def config(tmp_path: pathlib.Path, text: str) -> str:
    path = tmp_path / "kling.toml"
    path.write_text(text)
    return str(path)
