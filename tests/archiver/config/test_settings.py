"""What settings there are, that all problems are said at once, and that no message contains a secret."""

import pathlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from archiver.config.settings import SETTINGS, Need, Settings, SettingsError
from tests.harness.settings import ENOUGH, TOKEN, WHSEC, load, problems


def test_four_variables_are_enough_and_the_rest_has_the_defaults_of_the_contract() -> None:
    settings = load()

    assert settings.base_url == "https://api-singapore.klingai.com"
    assert settings.account == "default"
    assert settings.families == (
        "images/generations",
        "images/editing/expand",
        "images/multi-image2image",
        "images/omni-image",
    )
    assert settings.ledger_url == "sqlite:///kling-ledger.db"
    assert (settings.sweep_interval_seconds, settings.sweep_full_interval_seconds) == (300, 86_400)
    assert (settings.query_rate_per_second, settings.transfer_concurrency) == (2, 16)
    assert (settings.asset_bytes_max, settings.video_bytes_max) == (512 * 2**20, 2 * 2**30)
    assert settings.callback_bytes_max == 256 * 2**10
    assert settings.asset_hosts == ("klingai.com", "kechuangai.com", "inkwai.com", "kwimgs.com")
    assert (settings.drain_seconds, settings.shutdown_seconds) == (2, 20)
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert (settings.signature, settings.log_level, settings.forward_links) == ("optional", "info", None)
    assert (settings.spool_dir, settings.public_url, settings.admin_token) == (None, None, None)


def test_the_table_has_a_row_for_every_setting_of_the_contract_with_default_and_meaning() -> None:
    assert [setting.name for setting in SETTINGS] == [
        "KLING_ACCESS_KEY",
        "KLING_SECRET_KEY",
        "KLING_API_KEY",
        "KLING_BASE_URL",
        "KLING_ACCOUNT",
        "KLING_ACCOUNT_FORMER_NAMES",
        "KLING_FAMILIES",
        "KLING_IGNORED_FAMILIES",
        "KLING_CALLBACK_TOKEN",
        "KLING_SIGNING_SECRET",
        "KLING_SIGNATURE",
        "KLING_S3_BUCKET",
        "KLING_S3_PREFIX",
        "KLING_S3_ENDPOINT_URL",
        "KLING_S3_REGION",
        "KLING_S3_ADDRESSING_STYLE",
        "KLING_LEDGER_URL",
        "KLING_LEDGER_LISTEN_URL",
        "KLING_SWEEP_INTERVAL_SECONDS",
        "KLING_SWEEP_FULL_INTERVAL_SECONDS",
        "KLING_QUERY_RATE_PER_SECOND",
        "KLING_TRANSFER_CONCURRENCY",
        "KLING_ASSET_HOSTS",
        "KLING_ASSET_BYTES_MAX",
        "KLING_VIDEO_BYTES_MAX",
        "KLING_CALLBACK_BYTES_MAX",
        "KLING_SPOOL_DIR",
        "KLING_PUBLIC_URL",
        "KLING_ADMIN_TOKEN",
        "KLING_LINK_SECRET",
        "KLING_LINK_MODE",
        "KLING_GATEWAY",
        "KLING_GATEWAY_KEY",
        "KLING_CLIENT_API_KEYS",
        "KLING_FORWARD_URL",
        "KLING_FORWARD_SECRET",
        "KLING_FORWARD_LINKS",
        "KLING_FORWARD_HOSTS",
        "KLING_TRUSTED_PROXIES",
        "KLING_ALERT_URL",
        "KLING_ALERT_SECRET",
        "KLING_DRAIN_SECONDS",
        "KLING_SHUTDOWN_SECONDS",
        "KLING_HOST",
        "KLING_PORT",
        "KLING_METRICS_PORT",
        "KLING_LOG_FORMAT",
        "KLING_LOG_LEVEL",
    ]
    assert all(setting.meaning and setting.expects for setting in SETTINGS)


def test_the_defaults_written_in_the_table_are_the_defaults() -> None:
    written = {
        setting.name: setting.default
        for setting in SETTINGS
        if setting.default and not re.search(" under |else|KLING_", setting.default)
    }
    defaults, spelled_out = Settings.load(ENOUGH), Settings.load(ENOUGH | written)

    assert written["KLING_ASSET_BYTES_MAX"] == "512 MiB"
    assert defaults == spelled_out


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load().port = 1


def test_an_empty_environment_gets_all_missing_settings_at_once() -> None:
    error = SettingsError(problems({}))

    assert str(error).splitlines()[0] == "3 problems with the settings:"
    for name in ("KLING_ACCESS_KEY", "KLING_SECRET_KEY", "KLING_API_KEY", "S3_BUCKET", "CALLBACK_TOKEN"):
        assert name in str(error)


def test_problems_of_every_kind_come_together() -> None:
    found = problems(
        {
            "KLING_API_KEY": "k" * 20,
            "KLING_ACCESS_KEY": "a" * 20,
            "KLING_PORT": "99999",
            "KLING_FAMILIES": "/v1/images/generations",
            "KLING_ADMIN_TOKEN": "short",
            "KLING_SIGNATURE": "required",
            "KLING_SECRET_KEY_FILE": "/nowhere",
        }
    )

    said = " ".join(found)
    names = (
        "API_KEY",
        "PORT",
        "FAMILIES",
        "ADMIN_TOKEN",
        "SIGNATURE",
        "SECRET_KEY_FILE",
        "S3_BUCKET",
    )
    assert [name for name in names if f"KLING_{name}" not in said] == []


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"KLING_CONFIG": "/nowhere.toml"}, ["KLING_CONFIG names"]),
        (
            {name: value for name, value in ENOUGH.items() if name != "KLING_SECRET_KEY"}
            | {"KLING_SECRET_KEY_FILE": "/nowhere"},
            ["KLING_SECRET_KEY_FILE names"],
        ),
        (
            ENOUGH | {"KLING_SIGNATURE": "required", "KLING_SIGNING_SECRET_FILE": "/nowhere"},
            ["KLING_SIGNING_SECRET_FILE names"],
        ),
        (
            {name: value for name, value in ENOUGH.items() if name != "KLING_S3_BUCKET"}
            | {"KLING_S3_BUKET": "results"},
            ["KLING_S3_BUCKET is missing", "KLING_S3_BUKET is not a setting; did you mean KLING_S3_BUCKET?"],
        ),
    ],
)
def test_a_problem_causes_no_false_problems(environ: dict[str, str], said: list[str]) -> None:
    found = problems(environ)

    assert len(found) == len(said)
    assert all(text.startswith(begin) for text, begin in zip(found, said, strict=True))


@pytest.mark.parametrize(
    ("value", "said"), [("key\r", "ends in a carriage return"), ("key ", "ends in"), (" key", "begins with")]
)
def test_a_line_end_or_blank_around_a_variable_of_aws_is_a_problem_without_its_value(
    value: str, said: str
) -> None:
    found = problems(ENOUGH | {"AWS_SECRET_ACCESS_KEY": value, "AWS_REGION": "right"})

    assert [text.startswith(f"AWS_SECRET_ACCESS_KEY {said}") for text in found] == [True]
    assert "key" not in found[0]
    Settings.load(ENOUGH | {"AWS_SECRET_ACCESS_KEY": value}, need=[Need.KLING])


def test_a_blank_around_a_variable_of_aws_that_no_bucket_needs_is_no_problem() -> None:
    strangers = {"AWS_PAGER": " ", "AWS_DEFAULT_OUTPUT": "json\r", "AWS_NOTE": "-----BEGIN\nx\n"}
    Settings.load(ENOUGH | strangers)

    ours = dict.fromkeys(("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"), "x\r")
    assert [text.partition(" ")[0] for text in problems(ENOUGH | strangers | ours)] == sorted(ours)


def test_a_byte_order_mark_before_a_settings_file_or_a_secret_is_no_part_of_it(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "secret").write_bytes(f"\ufeff{WHSEC}\r\n".encode())
    (tmp_path / "kling.toml").write_bytes("\ufeffport = 8081\r\n".encode())

    settings = load(CONFIG=str(tmp_path / "kling.toml"), SIGNING_SECRET_FILE=str(tmp_path / "secret"))

    assert settings.port == 8081
    assert [secret.get_secret_value() for secret in settings.signing_secret] == [WHSEC]


def test_each_command_is_asked_only_for_what_it_needs() -> None:
    Settings.load({}, need=[])
    Settings.load({"KLING_API_KEY": "key"}, need=[Need.KLING])
    Settings.load({"KLING_S3_BUCKET": "results"}, need=[Need.STORE])
    Settings.load({"KLING_CALLBACK_TOKEN": TOKEN}, need=[Need.CALLBACKS])

    assert len(problems({}, Need.KLING, Need.STORE)) == 2
    assert problems({"KLING_PORT": "x"}, Need.KLING)[1].startswith("KLING_PORT must be")


def test_a_command_that_does_not_need_a_secret_does_not_read_its_file() -> None:
    settings = Settings.load({"KLING_CALLBACK_TOKEN_FILE": "/nowhere"}, need=[])

    assert settings.callback_token == ()
    assert "KLING_CALLBACK_TOKEN_FILE" in problems({"KLING_CALLBACK_TOKEN_FILE": "/nowhere"})[0]


SECRETS = {
    "KLING_ACCESS_KEY": "access hidden0",
    "KLING_SECRET_KEY": "secret hidden1",
    "KLING_API_KEY": "api hidden2",
    "KLING_CALLBACK_TOKEN": "token hidden3",
    "KLING_SIGNING_SECRET": "signing hidden4",
    "KLING_ADMIN_TOKEN": "admin hidden5",
    "KLING_FORWARD_SECRET": "forward hidden6",
    "KLING_FORWARD_URL": "https://user:hidden16@host/",
    "KLING_FORWARD_LINKS": "https://user:hidden17@host",
    "KLING_FORWARD_HOSTS": "https://user:hidden18@host",
    "KLING_BASE_URL": "https://user:hidden7@host",
    "KLING_S3_ENDPOINT_URL": "https://user:hidden8@host",
    "KLING_PUBLIC_URL": "https://host/?token=hidden9",
    "KLING_LEDGER_URL": "postgres://user:hidden10@host/db",
    "KLING_PORT": "tcp://user:hidden11@host",
    "KLING_ALERT_URL": "https://user:hidden12@host/",
    "KLING_ALERT_SECRET": "alert hidden13",
    "KLING_LINK_SECRET": "link hidden14",
    "KLING_LINK_MODE": "https://user:hidden15@host",
}


def test_no_message_contains_a_secret_although_every_setting_is_wrong() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(SECRETS)
    told = [str(caught.value), repr(caught.value), repr(caught.value.__cause__)]

    assert len(caught.value.problems) >= len(SECRETS)
    assert [text for text in told if "hidden" in text] == []
    assert caught.value.__suppress_context__


def test_neither_repr_nor_str_nor_a_dump_of_settings_shows_a_secret() -> None:
    settings = load(ADMIN_TOKEN="hidden-admin-token", SIGNING_SECRET=WHSEC)
    told = repr(settings) + str(settings) + settings.model_dump_json() + repr(settings.model_dump())

    assert [secret for secret in settings.secrets() if secret in told] == []
    assert len(settings.secrets()) == 5


@given(
    st.dictionaries(
        st.sampled_from([setting.name for setting in SETTINGS]),
        st.text(st.characters(exclude_characters="\0")),
    )
)
def test_any_environment_becomes_settings_or_sentences(
    environ: dict[str, str],
) -> None:
    try:
        Settings.load(environ)
    except SettingsError as error:
        assert error.problems  # noqa: PT017 - either outcome is right
        assert all(re.match(r"KLING_\w+", text) and text.isprintable() for text in error.problems)  # noqa: PT017
