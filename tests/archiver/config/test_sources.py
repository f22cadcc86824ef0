"""Where settings come from: the environment, the TOML file, secret files."""

import pathlib

import pytest

from archiver.config.settings import SETTINGS, Need, Settings
from tests.harness.settings import ENOUGH, LINK_SECRET, TOKEN, WHSEC, config, load, problem, problems


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
def test_internal_names_are_no_settings(key: str, tmp_path: pathlib.Path) -> None:
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
