"""Settings: their sources, their problems, and that no message contains a secret."""

import base64
import pathlib
import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from archiver.config.roles import ProcessRole
from archiver.config.settings import EVERYTHING, SETTINGS, Need, Settings, SettingsError
from archiver.families import FAMILIES
from archiver.fetch import urls

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


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SSL_CERT_FILE", "/nowhere.pem", "No such file or directory"),
        ("SSL_CERT_FILE", "/etc/passwd", "no certificate in PEM"),
        ("SSL_CERT_DIR", "/nowhere", "names no folder"),
    ],
)
def test_certificates_that_cannot_be_trusted_are_a_sentence(variable: str, value: str, said: str) -> None:
    (only,) = problems(ENOUGH | {variable: value})

    assert variable in only
    assert said in only


def config(tmp_path: pathlib.Path, text: str) -> str:
    path = tmp_path / "kling.toml"
    path.write_text(text)
    return str(path)


# --- what there is --------------------------------------------------------------------------------------


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


# --- where it comes from --------------------------------------------------------------------------------


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path: pathlib.Path) -> None:
    path = config(tmp_path, 'port = 1\nhost = "::1"\nfamilies = ["images/generations"]\n')
    settings = load(CONFIG=path, PORT="2")

    assert (settings.port, settings.host, settings.families) == (2, "::1", ("images/generations",))
    assert settings.account == "default"


def test_secrets_come_from_files_without_the_line_end(tmp_path: pathlib.Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\nanother-token-0123456789\n")
    (tmp_path / "key").write_text("an-api-key\n")
    settings = Settings.load(
        {
            "KLING_CONFIG": config(tmp_path, f'callback_token_file = "{tmp_path}/token"\ns3_bucket = "b2"\n'),
            "KLING_API_KEY_FILE": str(tmp_path / "key"),
        }
    )

    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "an-api-key"
    assert settings.secrets() == ("an-api-key", TOKEN, "another-token-0123456789")


def test_a_secret_in_the_environment_wins_over_its_file_named_in_the_config(tmp_path: pathlib.Path) -> None:
    path = config(tmp_path, 'secret_key_file = "/nowhere/but/not/used"')

    assert "cannot be read" in problem(CONFIG=path)  # a wrong path is said all the same
    (tmp_path / "secret").write_text("from-the-file")
    path = config(tmp_path, f'secret_key_file = "{tmp_path}/secret"')
    assert load(CONFIG=path).secrets()[1] == ENOUGH["KLING_SECRET_KEY"]


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS if setting.secret])
def test_every_secret_has_its_file(name: str, tmp_path: pathlib.Path) -> None:
    special = {
        "KLING_SIGNING_SECRET": WHSEC,
        "KLING_ALERT_SECRET": WHSEC,
        "KLING_FORWARD_SECRET": WHSEC,
        "KLING_FORWARD_URL": "https://app.example.com/a-path",
        "KLING_LINK_SECRET": LINK_SECRET,
        "KLING_GATEWAY_KEY": "shop:" + "s" * 30,
        "KLING_ALERT_URL": "https://hooks.example.com/T0/B0?key=s",
    }
    (tmp_path / "secret").write_text(special.get(name, "s" * 30))
    environ = {key: value for key, value in ENOUGH.items() if key != name}
    if name == "KLING_API_KEY":
        environ = {key: value for key, value in environ.items() if not key.endswith("_KEY")}
    settings = Settings.load(environ | {f"{name}_FILE": str(tmp_path / "secret")})

    assert (tmp_path / "secret").read_text() in settings.secrets()


def test_a_secret_given_directly_and_by_file_is_a_problem(tmp_path: pathlib.Path) -> None:
    (tmp_path / "secret").write_text("x")

    assert problem(SECRET_KEY_FILE=str(tmp_path / "secret")) == (
        "KLING_SECRET_KEY and KLING_SECRET_KEY_FILE are both set: remove one of them."
    )


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "empty"), (b" \n", "empty"), (b"\xff\xfe", "not valid text")]
)
def test_a_secret_file_without_a_secret_is_a_problem(
    content: bytes, said: str, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "secret").write_bytes(content)

    assert said in problem(ADMIN_TOKEN_FILE=str(tmp_path / "secret"))


def test_an_empty_variable_is_an_unset_one() -> None:
    assert load(API_KEY="", PORT=" ", SIGNING_SECRET="").port == 8080


def test_an_unknown_variable_is_a_warning_with_a_guess_and_without_its_value() -> None:
    settings = load(SWEEP_INTERVAL="the-value", QUITE_ELSE="the-value")

    assert settings.unknown == ("KLING_QUITE_ELSE is not a setting.",)
    assert settings.misspelled == (
        "KLING_SWEEP_INTERVAL is not a setting; did you mean KLING_SWEEP_INTERVAL_SECONDS?",
    )


def test_an_unknown_key_in_the_file_is_a_problem_with_a_guess(tmp_path: pathlib.Path) -> None:
    said = problem(CONFIG=config(tmp_path, "prot = 8081\n"))

    assert (
        said
        == f"'prot' in {tmp_path}/kling.toml is not a setting; did you mean 'port'? Correct or remove it."
    )


@pytest.mark.parametrize("key", ["unknown", "KLING_PORT", "model_config", "config", "port_file"])
def test_names_that_are_only_ours_inside_are_no_settings(key: str, tmp_path: pathlib.Path) -> None:
    assert "is not a setting" in problem(CONFIG=config(tmp_path, f'{key} = "x"\n'))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"port = \n", "is not valid TOML (at line 1, column 8)"),
        (b'secret_key = "hidden', "is not valid TOML (at end of document)"),
        (b"\xff", "is not valid TOML"),
        (b"port = " + b"9" * 5000, "is not valid TOML"),
        (b"port = " + b"[" * 100_000, "is not valid TOML"),
    ],
)
def test_a_config_file_that_cannot_be_read_is_one_problem(
    text: bytes, said: str, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "kling.toml"
    path.write_bytes(text)

    assert problem(CONFIG=str(path)).endswith(f"{said}.")


def test_a_config_file_that_is_not_there_is_a_problem_and_not_an_empty_one(tmp_path: pathlib.Path) -> None:
    assert "No such file" in problem(CONFIG=str(tmp_path / "none.toml"))
    assert "directory" in problem(CONFIG=str(tmp_path))


@pytest.mark.parametrize("value", ["true", "[1]", "{a = 1}", "1979-05-27", "1.5", '""', "-1", "[]", "nan"])
@pytest.mark.parametrize("name", ["port", "families", "asset_bytes_max", "callback_token", "spool_dir"])
def test_a_value_of_the_wrong_type_in_the_file_is_a_problem_that_names_file_and_key(
    name: str, value: str, tmp_path: pathlib.Path
) -> None:
    environ = {key: text for key, text in ENOUGH.items() if key != f"KLING_{name.upper()}"}
    path = config(tmp_path, f"{name} = {value}\n")
    found = problems(environ | {"KLING_CONFIG": path}, Need.STORE, Need.CALLBACKS)

    assert [text.startswith(f"{name!r} in {path} must ") for text in found] == [True]


# --- all problems at once, and no secret in them ----------------------------------------------------------


def test_an_empty_environment_is_told_everything_that_is_missing_at_once() -> None:
    error = SettingsError(problems({}))

    assert str(error).splitlines()[0] == "3 problems with the settings:"
    for name in ("KLING_ACCESS_KEY", "KLING_SECRET_KEY", "KLING_API_KEY", "S3_BUCKET", "CALLBACK_TOKEN"):
        assert name in str(error)


def test_problems_of_every_kind_come_together() -> None:
    found = problems(
        {
            "KLING_CONFIG": "/nowhere.toml",
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
        "CONFIG",
        "API_KEY",
        "PORT",
        "FAMILIES",
        "ADMIN_TOKEN",
        "SIGNATURE",
        "SECRET_KEY_FILE",
        "S3_BUCKET",
    )
    assert [name for name in names if f"KLING_{name}" not in said] == []


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


def test_no_message_holds_a_secret_although_every_one_is_wrong() -> None:
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
def test_whatever_stands_in_the_environment_the_answer_is_settings_or_sentences(
    environ: dict[str, str],
) -> None:
    try:
        Settings.load(environ)
    except SettingsError as error:
        assert error.problems  # noqa: PT017 - either outcome is right
        assert all(re.match(r"KLING_\w+", text) and text.isprintable() for text in error.problems)  # noqa: PT017


# --- each setting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("65536", 65536),
        ("64 KiB", 65536),
        ("64KiB", 65536),
        ("1 mib", 2**20),
        ("3 GiB", 3 * 2**30),
        ("64 KB", 64_000),
        ("64MB", 64_000_000),
        ("2 gb", 2_000_000_000),
    ],
)
def test_sizes_are_bytes_or_have_a_binary_or_a_decimal_unit(written: str, read: int) -> None:
    assert load(ASSET_BYTES_MAX=written).asset_bytes_max == read


@pytest.mark.parametrize("written", ["64 M", "64k", "-1", "1.5 GiB", "MiB", "9" * 400, "1", "99999 GiB", "٣"])
def test_other_sizes_are_refused(written: str) -> None:
    assert problem(VIDEO_BYTES_MAX=written).startswith("KLING_VIDEO_BYTES_MAX must be ")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("PORT", ["0", "65535"], ["-1", "65536", "80.5", "http", "9" * 5000]),
        ("TRANSFER_CONCURRENCY", ["1", "256"], ["0", "257"]),
        ("SWEEP_INTERVAL_SECONDS", ["1", "1.5"], ["0.5", "0", "nan", "inf", "1e400", "-300"]),
        ("SWEEP_FULL_INTERVAL_SECONDS", ["1", "86400"], ["0", "2592001"]),
        ("QUERY_RATE_PER_SECOND", ["0.1", "50"], ["0", "-1", "nan"]),
        ("DRAIN_SECONDS", ["0", "2"], ["-1"]),
        ("SHUTDOWN_SECONDS", ["0", "20"], ["-1", "inf"]),
        ("LOG_LEVEL", ["debug", "WARNING"], ["loud", "0"]),
        ("LOG_FORMAT", ["json", "console"], ["xml"]),
        ("SIGNATURE", ["optional"], ["never"]),
        ("S3_ADDRESSING_STYLE", ["auto", "path", "virtual"], ["host"]),
        ("S3_REGION", ["eu-central-1", "auto", "garage"], ["a b", "../x"]),
        ("ACCOUNT", ["default", "team-2.eu"], ["", ".", "a/b", "a b", "ä", "x" * 65]),
        ("HOST", ["0.0.0.0", "::", "fe80::1%eth0", "localhost"], ["http://x", "a b", "[::1]", "a:b:c"]),  # noqa: S104 - only parsed
        ("HOST", [], ["127.0.0.1:8080", "localhost:80", "[::1]:8080", ":8080"]),
        ("SPOOL_DIR", ["/var/spool/kling", "relative"], []),
        ("S3_BUCKET", ["results", "my.bucket-1", "arn:aws:s3:eu-west-1:1:accesspoint/x"], ["s3://b", "a/b"]),
        ("S3_PREFIX", ["kling/", "a/b/c/", "kling-", "day=1/"], ["/a/", "a//b/", "../", "a/./", "//", "a b/"]),
        ("LEDGER_URL", ["sqlite:///x.db", "sqlite:////data/x.db"], ["sqlite://", "sqlite:///", "x.db"]),
        ("LEDGER_URL", [], ["sqlite:///:memory:", "sqlite:///x.db?mode=ro", "mysql://h/d", "sqlite:////data/"]),
        ("BASE_URL", ["https://gw.example/kling", "http://127.0.0.1:9/x", "http://[::1]:9"], []),
        ("BASE_URL", [], ["http://api.klingai.com", "api.klingai.com", "ftp://x", "https://", "https://[x"]),
        ("BASE_URL", [], ["https://h:99999", "https://h/?q", "https://h/#f", "https://u@h", "https://h/ x"]),
        ("PUBLIC_URL", ["https://kling.example.com", "http://10.0.0.1:8080/x"], ["kling.example.com", "x://y"]),
        ("S3_ENDPOINT_URL", ["http://minio:9000"], ["minio:9000", "http://minio:0"]),
        ("FAMILIES", ["images/generations", "videos/text2video"], ["images", "a/b/c/d", "Images/X", ",", "a/../b"]),
        ("ASSET_HOSTS", ["klingai.com", "a.com,http://127.0.0.1:9000"], ["*", "https://", "a b", ","]),
        ("CALLBACK_TOKEN", [TOKEN, f"{TOKEN},{TOKEN}2"], ["short", TOKEN + "/x", f"{TOKEN},short", f'"{TOKEN}"']),
        ("SIGNING_SECRET", [WHSEC, f"{WHSEC},{WHSEC[:-4]}"], [WHSEC[6:], "whsec_", "whsec_!!!!", "whsec_abc"]),
        ("ADMIN_TOKEN", ["x" * 16], ["x" * 15, '"' + "x" * 16 + '"', "x" * 16 + " y"]),
        ("LINK_SECRET", [LINK_SECRET, f"{LINK_SECRET},{LINK_SECRET}2", "ö" * 32], ["x" * 31, f"{LINK_SECRET},y"]),
        ("LINK_SECRET", [], [f"{LINK_SECRET} x", f'"{LINK_SECRET}"']),
        ("GATEWAY", ["off", "Off", "OFF"], ["yes", "1", "both"]),
        ("GATEWAY_KEY", [f"a:{KEY}", f"a:{KEY},b.1-_:{KEY}:1"], [KEY, f"a:{KEY[:23]}", f":{KEY}", f"a b:{KEY}"]),
        ("GATEWAY_KEY", [], [f"a:{KEY},a:{KEY}1", f"a:{KEY},b:{KEY}", f"a:{'ö' * 24}"]),
        ("CLIENT_API_KEYS", ["api-key-1", "api-key-1,sk-2"], ["two words", "'quoted'"]),
        ("LINK_MODE", ["redirect", "Stream", "https://cdn.example.com", "https://cdn.example.com/A/"], ["proxy"]),
        ("LINK_MODE", [], ["http://cdn.example.com/", "https://cdn.example.com/?x=", "https://", "https://u@h/"]),
        ("SECRET_KEY", ["anything+/="], ["two words", "'quoted'", "ключ"]),
    ],
)  # fmt: skip
def test_values_in_range_are_taken_and_others_refused(name: str, good: list[str], bad: list[str]) -> None:
    for written in good:
        load(**{name: written})
    for written in filter(None, bad):
        assert problem(**{name: written}).startswith(f"KLING_{name} ")


def test_a_family_with_v1_before_it_is_told_how_to_write_it() -> None:
    assert problem(FAMILIES="/v1/images/generations") == (
        "KLING_FAMILIES must name families without /v1: write images/generations, not '/v1/images/generations'."
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("images/generation", "images/generations"),
        ("image/generations", "images/generations"),
        ("images/genrations", "images/generations"),
        ("images/edit/expand", "images/editing/expand"),
        ("images/omniimage", "images/omni-image"),
        ("video/text2video", "videos/text2video"),
        ("tasks/videos", "tasks/video"),
    ],
)
def test_a_family_that_is_nearly_a_known_one_is_refused_with_that_one(written: str, meant: str) -> None:
    assert problem(FAMILIES=f"images/generations,{written}") == (
        f"KLING_FAMILIES must name families as Kling does: write {meant}, not '{written}'."
    )


@pytest.mark.parametrize(
    "written", ["images/omni-image2", "videos/image3video", "solutions/new", "audio/music"]
)
def test_a_family_that_kling_may_have_added_is_taken(written: str) -> None:
    assert load(FAMILIES=written).families == (written,)


def test_all_families_are_those_that_this_version_knows() -> None:
    assert load(FAMILIES="all").families == tuple(FAMILIES)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("https://api-singapore.klingai.com/v1", "https://api-singapore.klingai.com"),
        ("https://gateway/kling/v1/", "https://gateway/kling"),
    ],
)
def test_a_base_url_that_ends_in_v1_is_used_without_it_and_that_is_said(written: str, read: str) -> None:
    settings = load(BASE_URL=written)

    assert settings.base_url == read
    assert settings.corrected == (
        "KLING_BASE_URL ends in /v1, which every path of the API begins with: it is used without it.",
    )
    assert load(BASE_URL=read).corrected == ()


def test_an_admin_token_that_is_a_callback_token_is_refused() -> None:
    assert problem(ADMIN_TOKEN=TOKEN, CALLBACK_TOKEN=f"another-token-0123456789,{TOKEN}").startswith(
        "KLING_ADMIN_TOKEN is also a callback token"
    )


WITH_GATEWAY = {"GATEWAY": "on", "LINK_SECRET": LINK_SECRET, "PUBLIC_URL": "https://kling.example.com"}


@pytest.mark.parametrize("lacking", ["LINK_SECRET", "PUBLIC_URL"])
def test_a_gateway_needs_links_and_says_what_is_missing(lacking: str) -> None:
    assert load(**WITH_GATEWAY).gateway == "on"
    assert problem(**WITH_GATEWAY | {lacking: ""}).startswith(f"KLING_{lacking} is missing: the gateway")


def test_a_role_that_is_the_gateway_turns_it_on_and_refuses_to_have_it_off() -> None:
    environ = ENOUGH | {f"KLING_{name}": value for name, value in WITH_GATEWAY.items() if name != "GATEWAY"}
    need = ProcessRole.GATEWAY.need

    assert Settings.load(environ, need=need).gateway == "on"
    with pytest.raises(SettingsError, match="KLING_GATEWAY is off"):
        Settings.load(environ | {"KLING_GATEWAY": "off"}, need=need)


def test_beside_a_gateway_an_account_may_have_a_pair_and_an_api_key() -> None:
    settings = load(**WITH_GATEWAY, API_KEY="api-key-0123456789")

    assert settings.api_key is not None
    assert settings.access_key is not None


def test_an_admin_token_that_is_a_key_of_a_client_is_refused() -> None:
    assert problem(ADMIN_TOKEN=KEY, GATEWAY_KEY=f"shop:{KEY}").startswith(
        "KLING_ADMIN_TOKEN is also the key of a client"
    )


def test_a_tilde_is_the_home_folder_in_every_path(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No shell has read a unit file, a compose file or TOML."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "token").write_text("token-out-of-a-file-in-the-home")
    config(tmp_path, 'spool_dir = "~/spool"\nledger_url = "sqlite:///~/kling.db"')
    environ = {name: text for name, text in ENOUGH.items() if name != "KLING_CALLBACK_TOKEN"}
    settings = Settings.load(
        environ | {"KLING_CONFIG": "~/kling.toml", "KLING_CALLBACK_TOKEN_FILE": "~/token"}
    )

    assert settings.spool_dir == tmp_path / "spool"
    assert settings.ledger_url == f"sqlite:///{tmp_path}/kling.db"
    assert settings.callback_token[0].get_secret_value() == "token-out-of-a-file-in-the-home"
    assert "home folder is not known" in problem(SPOOL_DIR="~nobody-of-this-name/spool")


def test_lists_lose_spaces_and_repetitions_and_keep_their_order() -> None:
    settings = load(FAMILIES=" images/omni-image ,, images/generations,images/omni-image ")

    assert settings.families == ("images/omni-image", "images/generations")


def test_a_trailing_slash_of_a_url_is_dropped() -> None:
    settings = load(
        BASE_URL="https://gateway/kling/", PUBLIC_URL="https://me/", S3_ENDPOINT_URL="http://s3:1/"
    )

    assert (settings.base_url, settings.public_url, settings.s3_endpoint_url) == (
        "https://gateway/kling",
        "https://me",
        "http://s3:1",
    )


def test_the_asset_hosts_taken_are_those_the_address_policy_takes() -> None:
    settings = load(ASSET_HOSTS="klingai.com,http://127.0.0.1:9000")

    assert urls.EgressPolicy.parse(settings.asset_hosts).suffixes == {"klingai.com"}


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://host/db",
        "postgresql://user:p%40ss@[::1]:5433/db?sslmode=require",
        "postgresql:///db?host=/run/postgresql",
        "postgresql://user:password@one:5432,two:5433,[::1]/db",
    ],
)
def test_a_postgresql_ledger_is_taken_as_it_was_written(url: str) -> None:
    assert load(LEDGER_URL=url).ledger_url == url


@pytest.mark.parametrize(
    "url",
    [
        "postgres://host/db",
        "postgresql+psycopg://host/db",
        "postgresql://host",
        "postgresql://host/",
        "postgresql://host/a/b",
        "postgresql://host:none/db",
        "postgresql://one,two:none/db",
        "postgresql://[host/db",
        "postgresql://user:pass#word@host/db",
        "postgresql://user:pass word@host/db",
    ],
)
def test_what_is_no_url_of_a_postgresql_database_is_told_what_one_is(url: str) -> None:
    assert "postgresql://" in problem(LEDGER_URL=url)


def test_a_secret_that_is_not_needed_is_not_read_wherever_it_is(tmp_path: pathlib.Path) -> None:
    path = config(tmp_path, 'admin_token = "short"\n')
    settings = Settings.load(
        {
            "KLING_CALLBACK_TOKEN": TOKEN,
            "KLING_SECRET_KEY": "a-key-that-is-not-read",
            "KLING_API_KEY": "a-key-that-is-not-read",
            "KLING_ALERT_URL": "a-url-that-is-not-read",
            "KLING_CONFIG": path,
        },
        need=[Need.CALLBACKS],
    )

    assert settings.secrets() == (TOKEN,)


def test_the_password_of_the_ledger_is_a_secret_in_both_its_spellings_and_may_come_from_a_file(
    tmp_path: pathlib.Path,
) -> None:
    secret = tmp_path / "ledger-url"
    secret.write_text("postgresql://user:hidden%2Fword@host/db?password=another-one\n")
    settings = load(LEDGER_URL_FILE=str(secret))
    told = repr(settings) + str(settings) + settings.model_dump_json()

    assert {"hidden%2Fword", "hidden/word", "another-one"} <= set(settings.secrets())
    assert "hidden" not in told
    assert "another-one" not in told


def test_forwards_have_a_target_a_kind_of_urls_and_origins_that_clients_may_name() -> None:
    settings = load(
        FORWARD_URL="http://127.0.0.1:9/hook?key=x",
        FORWARD_LINKS="https://cdn.example.com/files",
        FORWARD_HOSTS="http://10.0.0.5:8000, https://intern.example.com",
    )

    assert settings.operator_url() == "http://127.0.0.1:9/hook?key=x"
    assert settings.forward_links == "https://cdn.example.com/files/"
    assert settings.forward_hosts == ("http://10.0.0.5:8000", "https://intern.example.com")
    assert problem(FORWARD_LINKS="http://cdn.example.com") == (
        "KLING_FORWARD_LINKS must be links, s3, presigned or a URL such as https://cdn.example.com/."
    )
    assert problem(FORWARD_HOSTS="intern.example.com").startswith("KLING_FORWARD_HOSTS must be a comma")


@pytest.mark.parametrize("name", ["ADMIN_TOKEN", "CALLBACK_TOKEN"])
def test_a_link_secret_that_opens_something_else_is_a_problem_that_names_both(name: str) -> None:
    said = problem(LINK_SECRET=f"{LINK_SECRET},{LINK_SECRET}2", **{name: f"{LINK_SECRET}2"})

    assert said.startswith(
        f"KLING_LINK_SECRET and KLING_{name} are the same: make another link secret with python3"
    )


def test_a_prefix_of_links_ends_in_a_slash_so_that_no_key_becomes_part_of_the_host() -> None:
    assert load(LINK_MODE="https://cdn.example.com").link_mode == "https://cdn.example.com/"
    assert load(LINK_MODE="https://cdn.example.com/Kling/").link_mode == "https://cdn.example.com/Kling/"


def test_the_token_message_has_a_command_that_makes_one() -> None:
    assert "secrets.token_urlsafe" in problem(CALLBACK_TOKEN="short")


def test_what_kubernetes_sets_for_a_service_named_kling_is_recognised() -> None:
    assert "enableServiceLinks" in problem(PORT="tcp://10.0.0.1:8080")


@pytest.mark.parametrize("lacking", ["KLING_ACCESS_KEY", "KLING_SECRET_KEY"])
def test_half_a_pair_of_keys_is_a_problem(lacking: str) -> None:
    environ = {name: value for name, value in ENOUGH.items() if name != lacking}

    (only,) = problems(environ)
    assert f"is set without {lacking}" in only


def test_two_kinds_of_credentials_are_a_problem() -> None:
    assert "KLING_API_KEY and KLING_ACCESS_KEY are both set" in problem(API_KEY="another")


def test_a_required_signature_needs_a_secret() -> None:
    assert problem(SIGNATURE="Required").startswith("KLING_SIGNATURE is `required`, but")
    assert load(SIGNATURE="required", SIGNING_SECRET=WHSEC).signature == "required"


def test_the_log_is_json_except_at_a_terminal_unless_set() -> None:
    assert [load().log_format_at(terminal=terminal) for terminal in (True, False)] == ["console", "json"]
    assert load(LOG_FORMAT="json").log_format_at(terminal=True) == "json"


@pytest.mark.parametrize("url", ["sqlite:///ledger.db", "postgresql://host", "postgres://host/db"])
def test_wake_ups_travel_by_postgresql_only(url: str) -> None:
    assert "postgresql://" in problem(LEDGER_LISTEN_URL=url)
