"""Each command line of ours in the READMEs, and in the comments of what `deploy/` ships, is one that the program takes.

A line counts if it begins with one of our programs, perhaps behind what starts it (`sudo`, `docker compose exec work`).
Usage notation is read as the longest form: `sweep [--full]` is `sweep --full`, an ellipsis stands for nothing.
"""

import itertools
import pathlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from archiver.__main__ import app
from receiver import __main__ as receiver_main
from receiver import daemon
from tests.harness.repository import ROOT

PROGRAMS = ("kling-archiver", "kling-receiver")
DOCUMENTS = (
    "README.md",
    "archiver/README.md",
    "receiver/README.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "deploy").rglob("*.md")),
)
SHIPPED = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "deploy").rglob("*")
    if path.is_file() and path.suffix in {".yaml", ".service", ".conf", ".timer", ".example", ""}
)
_ENDS = frozenset({"|", "||", "&&", "&", ";", ">", ">>", "<", "2>"})
_FLAGS = ("--help", "-h", "--version")


def code_of(text: str) -> Iterator[str]:
    """The lines of a document's code blocks, continuations joined, and its code spans."""
    fenced = re.findall(r"(?ms)^ *```\w*\n(.*?)^ *```", text)
    prose = re.sub(r"(?ms)^ *```.*?^ *```", "", text)
    indented = re.findall(r"(?m)^ {4,}(\S.*(?:\\\n.*)*)$", prose)
    blocks = "\n".join([*fenced, *indented]).replace("\\\n", " ")
    # The backslash of `\|` is that of a table.
    spans = (span.replace("\\|", "|") for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose))
    yield from (line.strip() for line in blocks.splitlines())
    ours = (span.replace("\n", " ") for span in spans if any(program in span for program in PROGRAMS))
    yield from ours


def comments_of(text: str) -> Iterator[str]:
    """The indented lines of a file's comments."""
    joined = re.sub(r"\\\n# *", " ", text)
    yield from re.findall(r"(?m)^#   +(\S.*)$", joined)


def commands_of(line: str) -> Iterator[list[str]]:
    """The program and its arguments, of each command of ours in a line."""
    alternatives = re.sub(r"\[([^\]|]*)\|[^\]]*\]", r"\1", line)  # [--one | --other]
    spelled = re.sub(r"[\[\]…]|\.\.\.", " ", alternatives)
    lexer = shlex.shlex(spelled, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        assert not any(re.search(rf"\b{program} ", line) for program in PROGRAMS), f"unreadable: {line}"
        return
    for place, word in enumerate(words):
        folder, _, name = word.rpartition("/")
        if name in PROGRAMS and (not folder or folder.endswith("bin")) and _begins(words[:place]):
            rest = words[place + 1 :]
            end = next((at for at, other in enumerate(rest) if other in _ENDS), len(rest))
            yield [name, *rest[:end]]


def _begins(before: list[str]) -> bool:
    """Whether what stands before a program's name in its line starts it. It is a word of prose or an argument else."""
    before = before[max((at + 1 for at, word in enumerate(before) if word in _ENDS), default=0) :]
    before = list(itertools.dropwhile(lambda word: re.match(r"[A-Z0-9_]+=", word), before))
    inside = {"exec", "systemd-run"} & set(before) or {"compose", "run"} <= set(before)
    return not before or bool(inside) or before[-1] in {"sudo", "env", "$", "nohup"}


def cases() -> list[tuple[str, ...]]:
    """(document, program, arguments…), each once."""
    found: dict[tuple[str, ...], None] = {}
    for document in DOCUMENTS:
        for line in code_of((ROOT / document).read_text()):
            found |= {(document, *command): None for command in commands_of(line)}
    for shipped in SHIPPED:
        for line in comments_of((ROOT / shipped).read_text()):
            found |= {(shipped, *command): None for command in commands_of(line)}
    return list(found)


def refusal(command: list[str]) -> str | None:
    """What the program says of arguments that it does not take. Nothing is run."""
    program, *arguments = command
    if program == "kling-receiver":
        return None if receiver_main.main(arguments) == 0 else "unknown arguments"
    group = typer.main.get_command(app)
    if not arguments or arguments[0] in _FLAGS:
        return None
    try:
        context = group.make_context(program, list(arguments))
        name, found, rest = group.resolve_command(context, arguments)  # type: ignore[attr-defined]  # it is a group
        if rest:  # alone, its name is a mention of it
            _parse(found, str(name), rest, context)
    except Exception as error:  # noqa: BLE001 -- the test says which
        return str(getattr(error, "message", error)) or type(error).__name__
    return None


def _parse(command: Any, name: str, arguments: list[str], parent: Any) -> None:
    """The types are those of the Click inside Typer, which is private to it."""
    if set(arguments) & set(_FLAGS):
        return
    context = command.make_context(name, list(arguments), parent=parent)
    if isinstance(command, typer.core.TyperGroup) and arguments:
        inner, found, rest = command.resolve_command(context, arguments)
        _parse(found, str(inner), rest, context)


def test_every_command_line_in_the_readmes_is_one_that_the_program_takes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(daemon, "run", lambda *_, **__: 0)
    monkeypatch.chdir(tmp_path)
    for name in ("fox.png", "tail.png", "body.json"):  # files of the examples
        (tmp_path / name).write_bytes(b"{}")
    tried = cases()
    refused = [(" ".join(case), why) for case in tried if (why := refusal(list(case[1:])))]

    assert refused == []
    assert len(tried) > 30


def test_every_block_of_shell_in_the_readmes_can_be_read_by_a_shell() -> None:
    for document in DOCUMENTS:
        for block in re.findall(
            r"(?ms)^ *```(?:sh|bash|console)\n(.*?)^ *```", (ROOT / document).read_text()
        ):
            done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, ""), f"{document}:\n{block}"


@pytest.mark.parametrize(
    "line",
    [
        "kling-archiver shwo ID",
        "kling-archiver status --chekc",
        "sudo kling-receiver --all",
        "docker compose exec work kling-archiver status --jsno",
        "KLING_S3_BUCKET=x kling-archiver retry --burried && echo",
    ],
)
def test_a_misspelled_command_line_is_found(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "run", lambda *_, **__: 0)
    [command] = commands_of(line)

    assert refusal(command)
