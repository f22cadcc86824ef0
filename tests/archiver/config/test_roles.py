"""What each role needs, and what it reads of all that is set."""

import gc
import pathlib
import types
from collections.abc import Iterator

import pytest

from archiver.__main__ import main as archiver_main
from archiver.config.roles import ProcessRole
from archiver.config.settings import SECRET_NAMES, Settings
from receiver.__main__ import main as receiver_main

OF_ALL = {"KLING_LEDGER_URL": "postgresql://user:of-the-ledger@host/db"}
OF_THE_DOOR = {
    "KLING_CALLBACK_TOKEN": "token-of-the-door",
    "KLING_SIGNING_SECRET": "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXQ=",
}
OF_CALLBACK_URLS = {"KLING_CALLBACK_TOKEN": "token-of-the-door"}
OF_KLING = {"KLING_ACCESS_KEY": "access-key-of-work", "KLING_SECRET_KEY": "secret-key-of-work"}
OF_WORK = OF_KLING | {
    "KLING_ALERT_URL": "https://hooks.example/of-work",
    "KLING_ALERT_SECRET": "whsec_b2Z3b3Jrb2Z3b3Jrb2Z3b3Jrb2Y=",
}
OF_FORWARDS = {
    "KLING_FORWARD_URL": "https://app.example/of-work",
    "KLING_FORWARD_SECRET": "whsec_b2Zmb3J3YXJkc29mZm9yd2FyZHM=",
    "KLING_LINK_SECRET": "link-secret-of-a-whole-daemon-and-more",
    "KLING_SIGNING_SECRET": "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXQ=",
}
"""Settings of forwards, which a worker signs for clients of the gateway by Kling's own secret."""
OF_THE_GATEWAY = {
    "KLING_GATEWAY_KEY": "shop:key-of-an-application-0123456789",
    "KLING_CLIENT_API_KEYS": "api-key-of-a-client",
    "KLING_LINK_SECRET": "link-secret-of-a-whole-daemon-and-more",
}
OF_NO_SECRET = {"KLING_S3_BUCKET": "results", "KLING_PUBLIC_URL": "https://kling.example.com"}
OF_THE_WHOLE = {
    "KLING_ADMIN_TOKEN": "admin-token-of-a-whole-daemon",
}
EVERYTHING = OF_ALL | OF_THE_DOOR | OF_WORK | OF_FORWARDS | OF_NO_SECRET | OF_THE_WHOLE | OF_THE_GATEWAY


@pytest.mark.parametrize(
    ("role", "needed", "read"),
    [
        (ProcessRole.DOOR, {"KLING_CALLBACK_TOKEN"}, OF_THE_DOOR),
        (
            ProcessRole.WORK,
            {"KLING_ACCESS_KEY", "KLING_SECRET_KEY", "KLING_S3_BUCKET"},
            OF_WORK | OF_FORWARDS,
        ),
        (
            ProcessRole.WHOLE,
            {"KLING_ACCESS_KEY", "KLING_SECRET_KEY", "KLING_S3_BUCKET", "KLING_CALLBACK_TOKEN"},
            OF_THE_DOOR | OF_WORK | OF_FORWARDS | OF_THE_WHOLE | OF_THE_GATEWAY,
        ),
        (
            ProcessRole.GATEWAY,
            {
                *("KLING_ACCESS_KEY", "KLING_SECRET_KEY", "KLING_S3_BUCKET"),
                *("KLING_LINK_SECRET", "KLING_PUBLIC_URL", "KLING_CALLBACK_TOKEN"),
            },
            OF_THE_GATEWAY | OF_KLING | OF_CALLBACK_URLS,
        ),
    ],
)
def test_a_role_starts_with_what_it_needs_and_reads_no_secret_of_another(
    role: ProcessRole, needed: set[str], read: dict[str, str]
) -> None:
    Settings.load({name: EVERYTHING[name] for name in needed}, need=role.need)
    of_all_that_is_set = Settings.load(EVERYTHING, need=role.need)

    assert set(of_all_that_is_set.secrets()) == {*read.values(), "of-the-ledger"}


def texts_in(root: object) -> Iterator[str]:
    """Every text that the program can reach from here."""
    seen, waiting = {id(root)}, [root]
    while waiting:
        here = waiting.pop()
        if isinstance(here, str):
            yield here
        for next_one in gc.get_referents(here):
            if id(next_one) not in seen and not isinstance(
                next_one, type | types.ModuleType | types.FunctionType
            ):
                seen.add(id(next_one))
                waiting.append(next_one)


@pytest.mark.parametrize("role", ProcessRole)
@pytest.mark.parametrize("where", ["variables", "a file"])
def test_settings_that_a_role_does_not_need_are_absent_from_its_settings(
    role: ProcessRole, where: str, tmp_path: pathlib.Path
) -> None:
    environ = EVERYTHING
    if where == "a file":
        lines = [f"{name.removeprefix('KLING_').lower()} = '{value}'" for name, value in EVERYTHING.items()]
        (tmp_path / "kling.toml").write_text("\n".join(lines))
        environ = {"KLING_CONFIG": str(tmp_path / "kling.toml")}
    settings = Settings.load(environ, need=role.need)
    held = "\n".join(texts_in(settings))

    secret = {f"KLING_{name.upper()}" for name in SECRET_NAMES} & EVERYTHING.keys()
    unneeded = {EVERYTHING[name] for name in secret} - set(settings.secrets())
    assert [each for each in unneeded if each in held] == []
    assert [secret for secret in settings.secrets() if secret not in held] == []


@pytest.mark.parametrize(
    "arguments", [["--edge-only"], ["--check", "--edge-only"], ["--gateway-only"], ["work"]]
)
def test_a_role_that_is_not_whole_refuses_an_sqlite_ledger_and_names_the_setting(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (EVERYTHING | {"KLING_LEDGER_URL": "sqlite:////nowhere/ledger.db"}).items():
        monkeypatch.setenv(name, value)
    main = archiver_main if arguments == ["work"] else receiver_main

    assert main(arguments) == 2
    assert "set KLING_LEDGER_URL to postgresql://" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "arguments", [["--gateway-only", "--edge-only"], ["--edge-only", "--edge-only"], ["work"]]
)
def test_other_arguments_of_the_receiver_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert receiver_main(arguments) == 2
    assert "unknown arguments" in capsys.readouterr().err
