"""What settings make of the application's parts."""

import pathlib

import pytest

from archiver.config.settings import Settings
from receiver.parts import file_places

LINKS = {"KLING_LINK_SECRET": "k7" * 16, "KLING_PUBLIC_URL": "https://kling.example.com"}
PRIVATE, PUBLIC = "http://127.0.0.1:9000", "https://s3.example.com"
PREFIX = "https://cdn.example.com/kling/"


def settings_of(folder: pathlib.Path, **more: str) -> Settings:
    return Settings.load(
        {
            "KLING_API_KEY": "an-api-key",
            "KLING_CALLBACK_TOKEN": "0123456789abcdef0123456789abcdef",
            "KLING_S3_BUCKET": "results",
            "KLING_S3_REGION": "eu-central-1",
            "KLING_LEDGER_URL": f"sqlite:///{folder}/ledger.db",
            **more,
        }
    )


@pytest.mark.parametrize(
    ("more", "presigns", "leads_to"),
    [
        ({"KLING_S3_ENDPOINT_URL": PUBLIC}, True, None),
        ({"KLING_S3_ENDPOINT_URL": PRIVATE}, True, None),
        ({"KLING_S3_ENDPOINT_URL": PUBLIC, **LINKS}, True, None),
        ({"KLING_S3_ENDPOINT_URL": PRIVATE, **LINKS}, False, None),
        ({"KLING_S3_ENDPOINT_URL": PUBLIC, "KLING_LINK_MODE": "stream", **LINKS}, False, None),
        ({"KLING_S3_ENDPOINT_URL": PRIVATE, "KLING_LINK_MODE": "redirect", **LINKS}, True, None),
        ({"KLING_S3_ENDPOINT_URL": PUBLIC, "KLING_LINK_MODE": PREFIX, **LINKS}, False, PREFIX),
    ],
)
def test_pages_of_the_console_get_files_from_where_links_lead_and_without_links_from_the_store(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, str],
    presigns: bool,
    leads_to: str | None,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    places = file_places(settings_of(tmp_path, **more))

    assert places.links_lead_to == leads_to
    assert (places.presign is not None) == presigns
    if places.presign is not None:
        url = places.presign("images/0.png")
        assert url.startswith(more["KLING_S3_ENDPOINT_URL"])
        assert "X-Amz-Expires=3600" in url
