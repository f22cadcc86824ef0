"""The commands by name. A command is imported when it is run, so that every `--help` and `--version` answer within 0.2
s: the ledger, the settings and the store take ten times as long to import. Its arguments and help are `usage`.
"""

import functools
import gc
import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import typer
from typer.core import TyperGroup

COMPLETE_VARIABLE = "_KLING_ARCHIVER_COMPLETE"
"""In the environment when a shell asks at TAB: Typer's name for this program."""

COMMANDS: Final = {
    "work": ("archiver.commands.work", "Verify, archive, sweep and forward on a PostgreSQL ledger."),
    "sweep": ("archiver.commands.sweep.command", "Find tasks whose callbacks are missing."),
    "status": ("archiver.commands.status", "Show the whole ledger at a glance."),
    "list": ("archiver.commands.tasks.list", "List tasks, the newest first."),
    "show": ("archiver.commands.tasks.show", "Show one task."),
    "link": ("archiver.commands.tasks.link", "Print the links of a task's files."),
    "forwards": (
        "archiver.commands.forwards",
        "List forwards to your application, and send them again.",
    ),
    "retry": ("archiver.commands.tasks.retry", "Ask the API for some tasks again, now."),
    "acknowledge": (
        "archiver.commands.tasks.acknowledge",
        "End the problem of lost or buried tasks that you have seen.",
    ),
    "register": ("archiver.commands.tasks.register", "Follow a task."),
    "submit": ("archiver.commands.submit.command", "Create a task, and follow it into the bucket."),
    "forget": ("archiver.commands.tasks.forget", "Erase a task from the ledger, for good."),
    "backup": (
        "archiver.commands.ledger.backup",
        "Copy an SQLite ledger into a file, while the daemon runs.",
    ),
    "doctor": ("archiver.commands.doctor", "Check everything that the daemon depends on."),
    "verify": (
        "archiver.commands.bucket.verify",
        "Compare every object in the bucket with manifests and ledger.",
    ),
    "sums": (
        "archiver.commands.bucket.sums",
        "Print the SHA-256 of every file in the bucket, as its manifest has it.",
    ),
    "rebuild": (
        "archiver.commands.ledger.rebuild",
        "Add the tasks that the ledger lacks, from the manifests in the bucket.",
    ),
    "move-ledger": ("archiver.commands.ledger.move_ledger", "Move the ledger to another database."),
    "demo": ("archiver.commands.demo", "Watch the whole job, with a simulated Kling account."),
    "deploy": (
        "archiver.commands.deploy",
        "Print the files for deployment: unit, compose, policies, schema.",
    ),
    "completion": ("archiver.commands.completion", "Print the script for completion in bash, zsh or fish."),
    "rename-account": ("archiver.commands.ledger.rename_account", "Rename an account in the ledger."),
}
"""Name → the module that does it, and the first line of its help. A test compares the two."""


class Commands(TyperGroup):
    """Knows names and first lines; the rest is imported at need."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """With the command itself in place of its first line."""
        name, listed, rest = super().resolve_command(ctx, args)
        if name is None:  # at a TAB behind an unknown name
            return None, listed, rest
        return name, command(name), rest


def command(name: str) -> Any:
    """The command with its usage; what it does is imported when it runs."""
    function = name.replace("-", "_")
    module = COMMANDS[name][0]
    usage = getattr(importlib.import_module(_usage_of(module)), function)

    @functools.wraps(usage)
    def run(*, context: typer.Context, **given: Any) -> None:
        _run(getattr(importlib.import_module(module), function), context, given)

    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command(name)(run)
    return typer.main.get_command(alone)


def _usage_of(module: str) -> str:
    return module.removesuffix(".command").replace("archiver.commands.", "archiver.commands.usage.")


def _run(work: Callable[..., None], context: typer.Context, given: Mapping[str, Any]) -> None:
    """`context.obj` is an `Invocation`, or the environment to make one of."""
    # Imported here for the reason at the head.
    from archiver.commands.terminal.exit_status import ending  # noqa: PLC0415
    from archiver.commands.terminal.invocation import Invocation  # noqa: PLC0415

    gc.enable()  # `main` has switched it off
    if isinstance(context.obj, Mapping):
        context.obj = Invocation(context.obj)
    with ending():
        work(context, **given)


def add_first_lines(app: typer.Typer) -> None:
    """Make every command known to `app`."""
    for name, (_, first_line) in COMMANDS.items():
        app.command(name, short_help=first_line)(_not_imported)


def _not_imported() -> None:
    """`Commands` runs the command itself instead."""
