"""The units agree with the program, and systemd has nothing to say about them."""

import os
import pathlib
import re
import subprocess
import tomllib

import pytest

from archiver.config.roles import ProcessRole
from archiver.config.settings import SETTINGS, Need, Settings
from archiver.pulses.watch import LIMITS
from receiver.daemon import SETTINGS_STATUS
from tests.deploy.units import DROP_INS, UNITS, Unit
from tests.harness.deployment import DEPLOY
from tests.harness.programs import needs
from tests.harness.repository import ROOT

SECRETS = {setting.name for setting in SETTINGS if setting.secret}
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
of_each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.path.name)


@of_each_unit
def test_the_unit_starts_its_role(unit: Unit) -> None:
    [command] = unit.values("ExecStart")
    program, _, arguments = command.removeprefix("/opt/kling-archiver/bin/").partition(" ")

    assert program in SCRIPTS
    assert f"{program} {arguments}".strip() == unit.role.value


@of_each_unit
@pytest.mark.parametrize("drop_ins", [(), *((name,) for name in DROP_INS), DROP_INS], ids="+".join)
def test_a_daemon_starts_with_what_the_unit_gives_it_and_is_given_no_more(
    unit: Unit, drop_ins: tuple[str, ...], tmp_path: pathlib.Path
) -> None:
    unit = Unit(unit.path, unit.role, drop_ins)
    for name in unit.credentials():
        text = (
            "postgresql://kling:word@db/kling"
            if name == "ledger_url"
            else f"{name}-0123456789-0123456789-0123"
        )
        (tmp_path / name).write_text(text)
    by_hand = {
        "KLING_S3_BUCKET": "results",
        "KLING_PUBLIC_URL": "https://kling.example.com",
        "KLING_GATEWAY": "on" if unit.role is ProcessRole.GATEWAY else "off",
    }
    environment = unit.environment(credentials=tmp_path)
    settings = Settings.load(by_hand | environment, need=unit.role.need)

    assert (settings.unknown, settings.misspelled) == ((), ())
    assert (
        settings.api_key is not None
        or "api-key.conf" not in drop_ins
        or "access_key" not in unit.credentials()
    )
    named = {value.removeprefix(f"{tmp_path}/") for value in environment.values() if str(tmp_path) in value}
    assert named <= unit.credentials()
    if not drop_ins:
        assert named == unit.credentials()
    assert environment.keys() & SECRETS == set()
    links = Need.LINKS in unit.role.need and "KLING_LINK_SECRET_FILE" in environment
    assert bool(settings.link_secret) == links


@of_each_unit
def test_each_role_that_makes_links_can_be_given_what_signs_them(unit: Unit, tmp_path: pathlib.Path) -> None:
    given = Unit(unit.path, unit.role, ("links.conf",))
    (tmp_path / "link_secret").write_text("link-secret-0123456789-0123456789-0123")
    environment = {
        name: value
        for name, value in given.environment(credentials=tmp_path).items()
        if name == "KLING_LINK_SECRET_FILE"
    }

    assert "link_secret" in given.credentials()
    assert bool(Settings.load(environment, need=[Need.LINKS]).link_secret)
    if unit.role is not ProcessRole.GATEWAY and Need.LINKS in unit.role.need:
        installed = (DEPLOY / "systemd/links.conf").read_text().partition("[Service]")[0]
        assert unit.path.name in installed


@of_each_unit
def test_a_port_for_metrics_is_set_for_each_instance_and_stays(unit: Unit) -> None:
    """The unit sets none, and so replaces none that a drop-in of an instance sets."""
    assert not [value for value in unit.values("Environment") if "METRICS_PORT" in value]
    assert unit.values("EnvironmentFile") == ["/etc/kling-archiver/kling.env"]


@of_each_unit
def test_what_a_drop_in_replaces_need_not_be_there_and_the_rest_must(unit: Unit) -> None:
    defaults = {value.partition(":")[0]: value.partition(":")[2] for value in unit.values("SetCredential")}
    replaceable = {"access_key", "secret_key", "aws_credentials"}

    assert set(defaults) == unit.credentials() & replaceable
    assert set(defaults.values()) <= {"\\n"}, "an empty secret is refused in a sentence that names its file"


@of_each_unit
def test_the_unit_restarts_for_ever_unless_the_settings_are_wrong(unit: Unit) -> None:
    assert unit.values("Restart") == ["always"]
    assert unit.values("StartLimitIntervalSec") == ["0"]
    assert unit.values("RestartPreventExitStatus") == [str(SETTINGS_STATUS)]
    assert unit.values("SuccessExitStatus") == []


@of_each_unit
def test_systemd_waits_longer_for_the_end_of_the_daemon_than_it_takes_by_default(unit: Unit) -> None:
    settings = Settings.load({}, need=[])
    [seconds] = unit.values("TimeoutStopSec")

    assert int(seconds) > settings.drain_seconds + settings.shutdown_seconds + 5


def test_all_units_are_shut_in_alike() -> None:
    """What follows the comment is the same, and so is what is said of start and end."""
    ends = {unit.path.read_text().partition("# A wrong setting is refused")[2] for unit in UNITS}

    assert len(ends) == 1


@of_each_unit
def test_two_instances_have_no_folder_and_no_port_in_common(unit: Unit) -> None:
    own = [value for key in ("StateDirectory", "WorkingDirectory") for value in unit.values(key)]
    own += [value for value in unit.values("Environment") if "SPOOL_DIR" in value or "PORT=" in value]

    assert all("%i" in value for value in own) == ("@" in unit.path.name)
    assert unit.values("WorkingDirectory") == [f"%S/{unit.values('StateDirectory')[0]}"]


@of_each_unit
def test_a_daemon_that_the_watchdog_aborts_leaves_no_core_dump_with_its_keys(unit: Unit) -> None:
    assert unit.values("WatchdogSec")
    assert unit.values("LimitCORE") == ["0"]


def _runnable(unit: Unit, folder: pathlib.Path) -> pathlib.Path:
    """The unit with a program that is there."""
    path = folder / unit.path.name.replace("@", "@8081")
    path.write_text(re.sub(r"(?m)^ExecStart=.*$", "ExecStart=/bin/true", unit.path.read_text()))
    for name in DROP_INS:
        drop_in = folder / f"{path.name}.d" / name
        drop_in.parent.mkdir(exist_ok=True)
        drop_in.write_text((DEPLOY / "systemd" / name).read_text())
    return path


@needs("systemd-analyze", package="systemd")
@of_each_unit
def test_systemd_finds_nothing_to_say_about_the_unit_and_its_drop_ins(
    unit: Unit, tmp_path: pathlib.Path
) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(_runnable(unit, tmp_path))],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


@needs("systemd-analyze", package="systemd")
@of_each_unit
def test_systemd_scores_the_exposure_of_the_unit_1_3_or_less(unit: Unit, tmp_path: pathlib.Path) -> None:
    path = _runnable(unit, tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=13", "--no-pager", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout


# --- commands beside the unit -------------------------------------------------------------------------------


def _run_script(tmp_path: pathlib.Path, unit: str, cat: str) -> subprocess.CompletedProcess[str]:
    """The shipped script, with a systemd that only writes down what it is asked for."""
    (tmp_path / "unit").write_text(cat)
    programs = {
        "systemctl": f'#!/bin/sh\n[ "$1 $2" = "cat {unit}" ] && cat {tmp_path}/unit\n',
        "systemd-run": '#!/bin/sh\nprintf "%s\\n" "$@"\n',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return subprocess.run(
        [str(DEPLOY / "systemd/kling-archiver"), "show", "a task", "--json"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "KLING_UNIT": unit},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@of_each_unit
def test_a_command_beside_the_unit_has_its_user_its_settings_and_its_secrets(
    unit: Unit, tmp_path: pathlib.Path
) -> None:
    unit = Unit(unit.path, unit.role, DROP_INS)
    lines = "\n".join(f"{key}={value}" for key, value in unit.pairs())
    done = _run_script(tmp_path, unit.path.name.replace("@", "@8081"), f"# {unit.path}\n[Service]\n{lines}\n")
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()
    given = [word.removeprefix("--property=") for word in words if word.startswith("--property=")]
    [name] = [word.removeprefix("--unit=") for word in words if word.startswith("--unit=")]
    credentials = pathlib.Path("/run/credentials") / name

    assert words[-4:] == ["/opt/kling-archiver/bin/kling-archiver", "show", "a task", "--json"]
    assert "--pipe" in words, "this is no terminal"
    assert {"DynamicUser=yes", "User=kling-archiver", "EnvironmentFile=/etc/kling-archiver/kling.env"} <= set(
        given
    )
    taken = ("Environment", "LoadCredential", "SetCredential", "UnsetEnvironment", "StateDirectory")
    expected = [
        f"{key}={value}".replace("%d", str(credentials)).replace("%S", "/var/lib").replace("%i", "8081")
        for key, value in unit.pairs()
        if key in taken
    ]
    assert [line for line in given if line.partition("=")[0] in taken] == expected
    assert not [line for line in given if "%" in line]


def test_a_command_beside_a_unit_that_is_not_there_says_so(tmp_path: pathlib.Path) -> None:
    done = _run_script(tmp_path, "other.service", "")

    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no unit other.service" in done.stderr


@needs("shellcheck")
def test_shellcheck_finds_nothing_to_say_about_the_shipped_script() -> None:
    done = subprocess.run(
        ["shellcheck", str(DEPLOY / "systemd/kling-archiver"), str(ROOT / ".ci/run")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "")


def test_the_readme_says_what_the_watchdog_kills_and_after_how_long() -> None:
    text = re.sub(r"\s+", " ", (DEPLOY / "README.md").read_text())
    assert {value for unit in UNITS for value in unit.values("WatchdogSec")} == {"2min"}
    assert "event loop hangs for two minutes" in text
    assert (
        "the ledger for ten minutes, one that asks Kling or the bucket for half an hour, one that transfers a file "
        "for two hours" in text
    )
    assert {limit.seconds for name, limit in LIMITS.items() if name != "archive-work"} == {600, 1800, 7200}
    assert {name for name, limit in LIMITS.items() if not limit.is_vital} == {
        "forward-loop",
        "forward-work",
        "alert-loop",
        "machine-look-loop",
        "wake-sender",
        "wake-receiver",
    }
