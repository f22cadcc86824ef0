"""What each role needs, and what it reads of all that is set."""

import pytest

from archiver.__main__ import main as archiver_main
from archiver.config.roles import ProcessRole
from archiver.config.settings import Settings
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
OF_THE_GATEWAY = {
    "KLING_GATEWAY_KEY": "shop:key-of-an-application-0123456789",
    "KLING_CLIENT_API_KEYS": "api-key-of-a-client",
    "KLING_LINK_SECRET": "link-secret-of-a-whole-daemon-and-more",
}
OF_NO_SECRET = {"KLING_S3_BUCKET": "results", "KLING_PUBLIC_URL": "https://kling.example.com"}
OF_THE_WHOLE = {
    "KLING_ADMIN_TOKEN": "admin-token-of-a-whole-daemon",
}
EVERYTHING = OF_ALL | OF_THE_DOOR | OF_WORK | OF_NO_SECRET | OF_THE_WHOLE | OF_THE_GATEWAY


@pytest.mark.parametrize(
    ("role", "needed", "read"),
    [
        (ProcessRole.DOOR, {"KLING_CALLBACK_TOKEN"}, OF_THE_DOOR),
        (ProcessRole.WORK, {"KLING_ACCESS_KEY", "KLING_SECRET_KEY", "KLING_S3_BUCKET"}, OF_WORK),
        (
            ProcessRole.WHOLE,
            {"KLING_ACCESS_KEY", "KLING_SECRET_KEY", "KLING_S3_BUCKET", "KLING_CALLBACK_TOKEN"},
            OF_THE_DOOR | OF_WORK | OF_THE_WHOLE | OF_THE_GATEWAY,
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
