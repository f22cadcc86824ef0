"""`register`: follow a task whose callback may never come."""

import contextlib
import difflib
from json import loads
from typing import Annotated

import typer

from archiver.commands.terminal.invocation import (
    AccountName,
    AsJson,
    account_meant,
    invocation_of,
    no_daemon_sentence,
)
from archiver.commands.terminal.printing import print_json, print_line, say
from archiver.composition import require_account
from archiver.create.registration import NotARegistration, asked_for, is_identifier
from archiver.families import FAMILIES
from archiver.model import FAMILY


def register(
    context: typer.Context,
    task_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the task, or its external id.")],
    *,
    family: Annotated[
        str, typer.Option("--family", metavar="F", help="As in the API's path: images/generations.")
    ],
    external_task_id: Annotated[
        str | None,
        typer.Option(
            "--external-task-id", "--external-id", metavar="X", help="The external id that belongs to it."
        ),
    ] = None,
    request: Annotated[
        str | None,
        typer.Option("--request", metavar="JSON", help="The body of the create call, for the manifest."),
    ] = None,
    account: AccountName = None,
    json: AsJson = False,
) -> None:
    """Follow a task from now on.

    Whether or not a callback or a sweep ever tells of it.

    \b
    Example: right after creating a task
      kling-archiver register 831768251064815642 --family images/generations
    """
    _check(context, task_id=task_id, family=family, external_task_id=external_task_id)
    asked_for = _read(context, request)
    invocation = invocation_of(context)
    settings = invocation.settings()
    name = account_meant(context, settings, name=account).account
    with contextlib.closing(invocation.ledger(settings, create=True)) as ledger:
        require_account(ledger, settings)
        new = ledger.register(
            task_id, account=name, family=family, external_task_id=external_task_id, request=asked_for
        )
        daemons = ledger.status()["daemons"]
    if json:
        names = {"task_id": task_id, "account": name, "family": family}
        print_json({**names, "external_task_id": external_task_id, "new": new})
    else:
        print_line(_sentence(task_id, new=new))
    advise_family(family)
    advice = no_daemon_sentence(daemons)
    if advice:
        say(advice)


def _check(context: typer.Context, *, task_id: str, family: str, external_task_id: str | None) -> None:
    """End with a usage error where a value cannot be meant."""
    for name, written in (("ID", task_id), ("--external-task-id", external_task_id)):
        if written is not None and not is_identifier(written):
            context.fail(f"{name} must be 1 to 256 characters that print, and not only dots.")
    problem = family_problem("--family", family)
    if problem:
        context.fail(problem)


def family_problem(name: str, family: str) -> str | None:
    """What is wrong with a family that was given as `name`; None when nothing is."""
    bare = family.strip("/").removeprefix("v1/")
    if FAMILY.fullmatch(family) and bare == family:
        return None
    if FAMILY.fullmatch(bare):
        return f"{name} takes the path without /v1 and outer slashes: {bare}"
    return f"{name} must be two or three path segments of a-z, 0-9 and -, such as images/generations."


def _read(context: typer.Context, request: str | None) -> dict[str, object] | None:
    """What was asked for. Ends with a usage error where it is not what a manifest may tell."""
    try:
        return asked_for(None if request is None else loads(request))
    except NotARegistration as error:
        context.fail(f"--{error}")
    except (ValueError, RecursionError):
        context.fail("--request must be JSON: the body of the create call.")


def _sentence(task_id: str, *, new: bool) -> str:
    if new:
        return f"{task_id} is registered: the API is asked for it now."
    return f"{task_id} was known already; see: kling-archiver show {task_id}"


def advise_family(family: str) -> None:
    """Say that a family is none that this version knows, which may be a slip."""
    if family in FAMILIES:
        return
    near = difflib.get_close_matches(family, sorted(FAMILIES), n=1, cutoff=0.75)
    hint = f"; did you mean {near[0]}?" if near else "."
    say(f"this version does not know the family {family}, and asks for /v1/{family} all the same{hint}")
