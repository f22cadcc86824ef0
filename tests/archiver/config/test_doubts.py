"""Settings that are allowed and probably a mistake: what is said of each, and that nothing is said of the others."""

import pathlib
import re

import pytest

from archiver.config import doubts
from archiver.config.settings import Settings, SettingsError
from tests.harness.repository import ROOT

ENOUGH = {
    "KLING_API_KEY": "an-api-key",
    "KLING_CALLBACK_TOKEN": "0123456789abcdef0123456789abcdef",
    "KLING_S3_BUCKET": "results",
}
PAIR = {"KLING_API_KEY": "", "KLING_ACCESS_KEY": "ak", "KLING_SECRET_KEY": "sk"}


def said(**more: str) -> list[str]:
    """The problems of a sufficient environment with `more`, whose names lack the prefix."""
    settings = Settings.load(ENOUGH | {f"KLING_{name}": value for name, value in more.items()})
    found = doubts.problems(settings)
    assert {problem.code for problem in found} <= {"settings"}
    assert all(problem.what_to_do for problem in found)
    assert {problem.account for problem in found} <= {None}, "it is clear which, where there is one"
    assert not any(problem.message.endswith((".", "?")) for problem in found), "a list goes on after it"
    return [f"{problem.message}. {problem.what_to_do}" for problem in found]


@pytest.mark.parametrize(
    ("name", "written", "message"),
    [
        ("FAMILIES", "images/new", "KLING_FAMILIES names images/new, a family that this version does not know"),
        ("FAMILIES", "images/expand", "that this version does not know. Did you mean images/editing/expand?"),
        ("PUBLIC_URL", "https://kling.example.com/callbacks", "ends in a path of the daemon's own (callbacks)"),
        ("PUBLIC_URL", "https://kling.example.com/x/callbacks/hidden", "of the daemon's own (callbacks)"),
        ("PUBLIC_URL", "https://kling.example.com/v1", "ends in a path of the daemon's own (v1)"),
        ("PUBLIC_URL", "https://kling.example.com/hidden", "has a path, and the daemon does not know it"),
        ("PUBLIC_URL", "http://kling.example.com", "plain http at a public address"),
        ("PUBLIC_URL", "http://8.8.8.8:8080", "plain http at a public address"),
        ("CALLBACK_TOKEN", "change-me-0123456789", "KLING_CALLBACK_TOKEN is a token from an example"),
        ("CALLBACK_TOKEN", "0123456789abcdef,your-token-0123456789", "is a token from an example"),
        ("ADMIN_TOKEN", "example-admin-token", "KLING_ADMIN_TOKEN is a token from an example"),
        ("SWEEP_INTERVAL", "60", "is not a setting. Did you mean KLING_SWEEP_INTERVAL_SECONDS?"),
        ("FORWARD_SECRET", "whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=", "KLING_FORWARD_SECRET has no effect without"),
        ("FORWARD_LINKS", "links", "KLING_FORWARD_LINKS is `links`, but links are not configured"),
        ("FORWARD_URL", "http://app.example.com/hidden", "KLING_FORWARD_URL is plain http at a public address"),
        ("LINK_SECRET", "k" * 32, "KLING_LINK_SECRET has no effect without KLING_PUBLIC_URL"),
        ("LINK_MODE", "stream", "KLING_LINK_MODE has no effect without KLING_LINK_SECRET"),
        ("GATEWAY_KEY", f"shop:{'k' * 24}", "KLING_GATEWAY_KEY has no effect while KLING_GATEWAY is off"),
        ("CLIENT_API_KEYS", "api-key-1", "KLING_CLIENT_API_KEYS has no effect while KLING_GATEWAY is off"),
        ("ALERT_SECRET", "whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=", "KLING_ALERT_SECRET has no effect without"),
        ("ALERT_URL", "http://hooks.example.com/hidden", "KLING_ALERT_URL is plain http at a public address"),
        ("SWEEP_INTERVAL_SECONDS", "2592000", "KLING_SWEEP_INTERVAL_SECONDS is more than a day"),
    ],
)  # fmt: skip
def test_a_setting_that_may_be_intended_but_does_quiet_harm_is_a_problem_without_a_secret(
    name: str, written: str, message: str
) -> None:
    (only,) = said(**{name: written})

    assert message in only
    assert "hidden" not in only
    assert "0123456789" not in only


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("FAMILIES", "images/generations,videos/text2video"),
        ("FAMILIES", "tasks/image,solutions/virtual_try_on"),
        ("FAMILIES", "all"),
        ("PUBLIC_URL", "https://kling.example.com/"),
        ("PUBLIC_URL", "http://127.0.0.1:8080"),
        ("PUBLIC_URL", "http://10.0.0.1:8080"),
        ("PUBLIC_URL", "http://receiver:8080"),
        ("PUBLIC_URL", "http://kling.internal"),
        ("CALLBACK_TOKEN", "KDvJ1oYlqWnqZ5tPZ8m3Qk2x7Ww0aBcD"),
        ("ADMIN_TOKEN", "0123456789abcdef"),
        ("BASE_URL", "https://api-singapore.klingai.com/v1"),
        ("S3_PREFIX", "kling"),
        ("QUITE_ELSE", "of another program"),
    ],
)
def test_a_setting_that_works_as_intended_is_no_problem(name: str, written: str) -> None:
    assert said(**{name: written}) == []


def test_families_of_the_new_standard_need_an_api_key_unless_all_are_named() -> None:
    pair = {name.removeprefix("KLING_"): value for name, value in PAIR.items()}

    (only,) = said(**pair, FAMILIES="images/generations,tasks/image")
    assert only.startswith("KLING_FAMILIES names tasks/image, which can be read with an API Key only.")
    assert said(**pair, FAMILIES="all") == []


def test_an_ignored_family_that_is_swept_or_does_not_exist_is_a_problem() -> None:
    (both,) = said(FAMILIES="images/generations", IGNORED_FAMILIES="images/generations,videos/lip-sync")
    (unknown,) = said(IGNORED_FAMILIES="videos/no-such")
    assert both.startswith("KLING_IGNORED_FAMILIES names images/generations, which KLING_FAMILIES names too")
    assert unknown.startswith(
        "KLING_IGNORED_FAMILIES names videos/no-such, a family that this version does not"
    )
    assert said(IGNORED_FAMILIES="all") == []


def test_a_value_that_the_daemon_corrects_or_that_is_a_matter_of_taste_is_only_logged() -> None:
    settings = Settings.load(
        ENOUGH
        | {
            "KLING_S3_PREFIX": "kling",
            "KLING_BASE_URL": "https://gateway/v1",
            "KLING_QUITE_ELSE": "x",
        }
    )

    assert settings.s3_prefix == "kling"
    assert [re.split(r" (?:is|ends|does) ", note)[0] for note in doubts.notes(settings)] == [
        "KLING_QUITE_ELSE",
        "KLING_BASE_URL",
        "KLING_S3_PREFIX",
    ]
    assert doubts.sentences(settings) == doubts.notes(settings)


@pytest.mark.parametrize(
    "host", ["a..example.com", "a.." + "b" * 5, "b" * 64 + ".example.com", "é" * 64 + ".example.com"]
)
@pytest.mark.parametrize(
    "written", ["BASE_URL=https://{}", "ALERT_URL=https://{}/x", "LEDGER_URL=postgresql://u:p@{}/db"]
)
def test_a_host_name_that_no_resolver_takes_is_refused(written: str, host: str) -> None:
    name, _, value = written.format(host).partition("=")
    with pytest.raises(SettingsError, match=f"KLING_{name}"):
        Settings.load(ENOUGH | {f"KLING_{name}": value})


def test_an_ending_that_every_path_begins_with_is_dropped_however_often_it_is_written() -> None:
    settings = Settings.load(ENOUGH | {"KLING_BASE_URL": "https://gateway.example.com/v1/v1/"})
    assert settings.base_url == "https://gateway.example.com"


def test_each_problem_is_an_alert_of_its_own() -> None:
    written = {"PUBLIC_URL": "http://8.8.8.8:8080", "FORWARD_LINKS": "links", "SWEEP_INTERVAL": "60"}
    settings = Settings.load(ENOUGH | {f"KLING_{name}": value for name, value in written.items()})

    found = doubts.problems(settings)
    assert len({problem.key for problem in found}) == len(found) == 3


def test_of_several_accounts_each_problem_names_its_own(tmp_path: pathlib.Path) -> None:
    config = tmp_path / "kling.toml"
    config.write_text(
        """
        [[accounts]]
        name = "eu"
        api_key = "key-of-eu"
        callback_token = "token-0123456789-of-eu"
        s3_prefix = "eu/"
        base_url = "https://gateway/v1"

        [[accounts]]
        name = "us"
        api_key = "key-of-us"
        callback_token = "token-0123456789-of-us"
        s3_prefix = "us/"
        families = ["images/generations", "images/new"]
        """
    )
    settings = Settings.load({"KLING_CONFIG": str(config), "KLING_S3_BUCKET": "results"})

    (problem,) = doubts.problems(settings)
    assert problem.account == "us"
    assert problem.message.startswith("'families' of the account 'us' names images/new")
    assert doubts.notes(settings) == (
        "'base_url' ends in /v1, which every path of the API begins with: it is used without it.",
    )


def test_every_token_written_out_in_the_documents_is_known_as_an_example() -> None:
    texts = [path.read_text() for path in (ROOT / "README.md", *(ROOT / "deploy").glob("*.*"))]
    written = [
        token
        for text in texts
        for token in re.findall(r"(?i)(?:callback|admin)_token\W{1,4}([A-Za-z0-9_~.-]{16,256})", text)
    ]

    assert written, "this test looks for nothing"
    for token in written:
        assert said(CALLBACK_TOKEN=token) != []


@pytest.mark.parametrize(
    ("more", "is_said"),
    [
        ({}, False),
        ({"FORWARD_URL": "https://app.example.com/h"}, True),
        ({"FORWARD_URL": "https://app.example.com/h", "FORWARD_LINKS": "s3"}, False),
        ({"FORWARD_URL": "https://app.example.com/h", "FORWARD_LINKS": "https://cdn.example.com/"}, False),
        (
            {
                "FORWARD_URL": "https://app.example.com/h",
                "LINK_SECRET": "k7" * 16,
                "PUBLIC_URL": "https://kling.example.com",
            },
            False,
        ),
    ],
)
def test_forwards_without_links_are_a_note_unless_a_setting_asks_for_them(
    more: dict[str, str], is_said: bool
) -> None:
    settings = Settings.load(ENOUGH | {f"KLING_{name}": value for name, value in more.items()})

    notes = [note for note in doubts.notes(settings) if "forwards name s3:// URLs" in note]
    assert bool(notes) == is_said
    assert all("KLING_LINK_SECRET" in note and "KLING_FORWARD_LINKS" in note for note in notes)
    assert doubts.problems(settings) == ()
