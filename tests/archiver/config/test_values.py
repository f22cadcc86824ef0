"""What each setting takes, and what it says of anything else."""

import pathlib

import pytest

from archiver.config.roles import ProcessRole
from archiver.config.settings import Need, Settings, SettingsError
from archiver.families import FAMILIES
from archiver.fetch import urls
from tests.harness.settings import ENOUGH, KEY, LINK_SECRET, TOKEN, WHSEC, config, load, problem, problems


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


@pytest.mark.parametrize(
    ("written", "why"),
    [("proxy", "'proxy' does not appear to be"), ("10.0.0.1/8", "10.0.0.1/8 has host bits set")],
)
def test_a_wrong_network_of_proxies_is_refused_with_an_example(written: str, why: str) -> None:
    said = problem(TRUSTED_PROXIES=written)

    assert said.startswith("KLING_TRUSTED_PROXIES must name IP addresses or networks such as 10.0.0.0/8: ")
    assert why in said


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
def test_a_wrong_url_of_a_postgresql_database_is_refused_with_an_example(url: str) -> None:
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


def test_variables_that_kubernetes_sets_for_a_service_named_kling_are_recognised() -> None:
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
