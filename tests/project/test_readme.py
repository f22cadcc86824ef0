"""The READMEs agree with the code, and lead where they say."""

import re
import textwrap
import tomllib
from pathlib import Path

import typer

from archiver.__main__ import app
from archiver.config import doubts
from archiver.config.settings import SETTINGS, Settings
from tests.harness.repository import ROOT

DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text()
    for folder, pattern in (
        (".", "*.md"),
        ("archiver", "*.md"),
        ("receiver", "*.md"),
        ("deploy", "**/*.md"),
        ("tests", "*.md"),
    )
    for path in sorted((ROOT / folder).glob(pattern))
}
FRONT_PAGE_LINES_MAX = 150


def table(name: str) -> list[list[str]]:
    """The cells of the first table behind the comment `<!-- name: …` in one of the documents, without its head."""
    return tables(name)[0]


def tables(name: str) -> list[list[list[str]]]:
    """Of each table between that comment and the end of its section."""
    (rest,) = (text.partition(f"<!-- {name}:")[2] for text in DOCUMENTS.values() if f"<!-- {name}:" in text)
    section = rest.partition("-->")[2].partition("\n## ")[0]
    blocks = [block for block in section.split("\n\n") if block.lstrip().startswith("|")]
    rows = [re.findall(r"^\|(.*)\|$", block, re.MULTILINE)[2:] for block in blocks]
    return [[[cell.strip() for cell in row.split("|")] for row in block] for block in rows]


def test_the_settings_table_has_every_setting_with_its_default_and_meaning() -> None:
    expected = [[f"`{setting.name}`", setting.default or "—", setting.meaning] for setting in SETTINGS]

    assert sorted(expected) == sorted(row for rows in tables("settings") for row in rows)


def test_the_example_of_several_accounts_is_one_that_starts(tmp_path: Path) -> None:
    example = (
        DOCUMENTS["deploy/settings.md"].partition("has a table for each:\n\n")[2].partition("\n\nKeys,")[0]
    )
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


def test_every_make_target_that_a_document_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for text in DOCUMENTS.values()
        for target in re.findall(r"^ +make ([a-z]+)", text, re.MULTILINE)
    }

    assert {"demo", "test", "check", "bench"} <= named <= targets


def test_every_link_to_a_file_leads_to_one() -> None:
    dead = [
        (name, link)
        for name, text in DOCUMENTS.items()
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
        if not (ROOT / name).parent.joinpath(link).exists()
    ]

    assert dead == []


def test_every_link_to_a_heading_leads_to_one() -> None:
    dead = [
        (name, link, heading)
        for name, text in DOCUMENTS.items()
        for link, heading in re.findall(r"\]\(([^)#:]*)#([^)]*)\)", text)
        if heading not in headings(((ROOT / name).parent / link) if link else ROOT / name)
    ]

    assert dead == []


def headings(document: Path) -> set[str]:
    """The anchors of its headings."""
    found = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_the_front_page_is_one_that_is_read_to_its_end() -> None:
    assert len(DOCUMENTS["README.md"].splitlines()) <= FRONT_PAGE_LINES_MAX
