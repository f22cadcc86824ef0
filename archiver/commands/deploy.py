"""`deploy`: the files of `deploy/`, from the installed package."""

import pathlib
import re
import sys

import typer

from archiver.commands import bundled
from archiver.commands.terminal.printing import console, print_json, table
from archiver.commands.usage.deploy import DeployAction

_TITLES = (
    re.compile(r'\A"""(\w.*?)(?:"""|$)', re.MULTILINE),
    re.compile(r"^(?:#|//|--|<!--) *(\w.*?)(?: *-->)?$", re.MULTILINE),
    re.compile(r'^ +"title": "(.*?)",?$', re.MULTILINE),
)
"""Where a file describes itself: in its first comment or heading, or the equivalent in Python and JSON."""
_SENTENCE = re.compile(r".+?(?=[.:;](?:\s|$)|$)")


def deploy(context: typer.Context, *, action: DeployAction, name: str | None, json: bool) -> None:
    """What `usage.deploy` says."""
    if action is DeployAction.LIST:
        if name is not None:
            context.fail("list takes no NAME.")
        _list(json=json)
    elif name is None:
        context.fail("show needs a NAME; `kling-archiver deploy list` has them.")
    elif json:
        context.fail("show prints a file as it is: leave out --json.")
    else:
        _show(context, name)


def about(path: pathlib.Path) -> str:
    """The first sentence of the file's description; empty if it has none."""
    text = path.read_text(encoding="utf-8", errors="replace")
    title = next((found[1] for pattern in _TITLES if (found := pattern.search(text))), "")
    sentence = _SENTENCE.match(title)
    return sentence[0] if sentence else ""


def _list(*, json: bool) -> None:
    rows = [(name, about(bundled.DEPLOY / name)) for name in bundled.deploy_files()]
    if json:
        print_json([{"name": name, "about": meaning} for name, meaning in rows])
    else:
        console().print(table(["name", "what it is"], rows))


def _show(context: typer.Context, name: str) -> None:
    name = name.removeprefix("deploy/")  # as the documents write it
    found = [each for each in bundled.deploy_files() if each == name] or [
        each for each in bundled.deploy_files() if f"/{each}".endswith(f"/{name}")
    ]
    if len(found) != 1:
        what = f"several files end in {name!r}: {', '.join(found)}" if found else f"there is no {name!r}"
        context.fail(f"{what}. `kling-archiver deploy list` has all names.")
    # As bytes: a locale that lacks a character must not damage a file.
    sys.stdout.flush()
    sys.stdout.buffer.write((bundled.DEPLOY / found[0]).read_bytes())
