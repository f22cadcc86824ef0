"""README's tables agree with the code."""

import re
import textwrap
import tomllib
from pathlib import Path

import typer

from archiver.__main__ import app
from archiver.config import doubts
from archiver.config.settings import SETTINGS, Settings
from tests.harness.repository import ROOT

README = (ROOT / "README.md").read_text()


def table(name: str) -> list[list[str]]:
    """The cells of the table behind the comment `<!-- name: …`, without its head."""
    _, _, rest = README.partition(f"<!-- {name}:")
    rows = re.findall(r"^\|(.*)\|$", rest[rest.index("\n| ") :].split("\n\n")[0], re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows[2:]]


def test_the_settings_table_has_every_setting_with_its_default_and_meaning() -> None:
    expected = [[f"`{setting.name}`", setting.default or "—", setting.meaning] for setting in SETTINGS]

    assert expected == table("settings")


def test_the_example_of_several_accounts_is_one_that_starts(tmp_path: Path) -> None:
    example = README.partition("has a table for each:\n\n")[2].partition("\n\nKeys,")[0]
    secret = tmp_path / "secret"
    text = re.sub(r'"/run/secrets/[\w-]+"', f'"{secret}"', textwrap.dedent(example).replace("…", "key"))
    secret.write_text("a-secret-out-of-a-file")
    config = tmp_path / "kling.toml"
    config.write_text(text)
    settings = Settings.load({"KLING_CONFIG": str(config)})

    assert [account.name for account in settings.accounts] == ["team-eu", "team-cn"]
    assert [problem.account for problem in doubts.problems(settings)] == ["team-eu"], "its token is public"
    assert doubts.notes(settings) == ()


def test_the_commands_table_has_every_command() -> None:
    described = {row[0].split("`")[1].split()[1] for row in table("commands")[1:]}
    commands = typer.main.get_group(app).commands

    assert set(commands) == described


def test_the_dependency_table_has_every_dependency_in_the_version_that_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = dict(
        re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    )
    names = [re.split(r"[><=;\[]", requirement)[0] for requirement in project["dependencies"]]

    assert [[name, locked[name]] for name in names] == [row[:2] for row in table("dependencies")]


def test_the_table_of_secrets_has_every_setting_that_is_one() -> None:
    named = {name for row in table("secrets") for name in re.findall(r"`(KLING_\w+)`", row[0])}

    assert named == {setting.name for setting in SETTINGS if setting.secret}


def test_every_make_target_that_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"^ +make ([a-z]+)", README, re.MULTILINE)) <= targets
