"""TAB in the shells themselves: each reads the script that `kling-archiver completion` prints, and asks the program."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from archiver.commands.usage.tasks.list import TaskState
from archiver.families import FAMILIES
from tests.harness.command_line import CommandLine, api_task, record

BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 ))
_kling_archiver_completion kling-archiver
printf '%s\\n' "${COMPREPLY[@]}"
"""
# A shell that takes no keys: `compdef` and `_arguments` belong to the line editor.
ZSH = """
compdef() { : }
_arguments() { print -r -- "$@" }
_files() { : }
script=$1; shift
words=("$@"); CURRENT=$#
source $script
_kling_archiver_completion
"""
FISH = """
source $argv[1]
complete --do-complete "$argv[2..]"
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
STARTED_PLAIN = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with `kling-archiver`, as an installation has it."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "kling-archiver"
    program.write_text(f"#!{sys.executable}\nfrom archiver.__main__ import main\nraise SystemExit(main())\n")
    program.chmod(0o755)
    return folder


def complete(shell: str, line: CommandLine, programs: pathlib.Path, *words: str, **settings: str) -> str:
    """What the shell shows for a line whose last word is not finished."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine: apt-get install {shell}")
    script = programs / f"completion.{shell}"
    if not script.exists():
        script.write_text(line.run("completion", shell).stdout)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(programs), **line.settings, **settings}
    command = [shell, *STARTED_PLAIN[shell], "-c", SCRIPTS[shell]]
    arguments = [str(script), "kling-archiver", *words]
    if shell != "fish":
        arguments.insert(0, shell)
    ran = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    return ran.stdout


@pytest.mark.parametrize("shell", list(SCRIPTS))
def test_commands_and_families_complete_in_a_real_shell(
    shell: str, tmp_path: pathlib.Path, programs: pathlib.Path
) -> None:
    line = CommandLine(tmp_path / "ledger.db")
    commands = complete(shell, line, programs, "re")
    families = complete(shell, line, programs, "register", "1", "--family", "images/e")

    assert [name for name in ("retry", "register", "rename-account") if name not in commands] == []
    assert "status" not in commands
    assert [family for family in FAMILIES if family in families] == ["images/editing/expand"]


def test_bash_completes_states_and_the_ids_of_tasks(tmp_path: pathlib.Path, programs: pathlib.Path) -> None:
    line = CommandLine(tmp_path / "ledger.db").with_ledger()
    with line.ledger() as ledger:
        record(ledger, api_task("831768251064815642", external_task_id="order-7"), api_task("912"))

    ids = complete("bash", line, programs, "show", "")
    begun = complete("bash", line, programs, "retry", "912", "8")
    states = complete("bash", line, programs, "list", "--family", "images/generations", "--state", "")

    files = complete("bash", line, programs, "deploy", "show", "manifest")

    assert files.split() == ["manifest.schema.json"]
    assert complete("bash", line, programs, "deploy", "list", "m").strip() == ""
    assert sorted(ids.split()) == ["831768251064815642", "912", "order-7"]
    assert begun.split() == ["831768251064815642"]
    assert states.split() == list(TaskState)


def test_tab_is_silent_where_there_is_no_ledger_and_no_such_command(
    tmp_path: pathlib.Path, programs: pathlib.Path
) -> None:
    line = CommandLine(tmp_path / "missing" / "ledger.db")

    assert complete("bash", line, programs, "show", "", KLING_PORT="not a port").strip() == ""
    assert "Traceback" not in complete("bash", line, programs, "no-such-command", "")
