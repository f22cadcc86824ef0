"""`register`: follow a task whose callback may never come."""

import contextlib
import shlex
from json import loads

import typer

from archiver.commands.terminal.invocation import (
    chosen_account,
    invocation_of,
    no_daemon_sentence,
)
from archiver.commands.terminal.printing import print_json, print_line, print_note
from archiver.composition.accounts import require_account
from archiver.create.registration import (
    IDENTIFIER_RULE,
    NotARegistration,
    family_rule,
    is_identifier,
    kept_request,
)
from archiver.families import FAMILIES, similar
from archiver.model import TASK_ID


def register(
    context: typer.Context,
    *,
    task_id: str,
    family: str,
    external_task_id: str | None,
    request: str | None,
    account: str | None,
    json: bool,
) -> None:
    """What `usage.tasks.register` says."""
    _check(context, task_id=task_id, family=family, external_task_id=external_task_id)
    kept = _kept_request(context, request)
    invocation = invocation_of(context)
    settings = invocation.settings()
    name = chosen_account(context, settings, name=account).name
    with contextlib.closing(invocation.ledger(settings)) as ledger:
        require_account(ledger, settings)
        new = ledger.registrations.register(
            task_id, account=name, family=family, external_task_id=external_task_id, request=kept
        )
        daemons = ledger.daemons.alive()
    if json:
        names = {"task_id": task_id, "account": name, "family": family}
        print_json({**names, "external_task_id": external_task_id, "new": new})
    else:
        print_line(_sentence(task_id, new=new))
    if not TASK_ID.fullmatch(task_id):
        print_note(f"{task_id!r} cannot be a task id of Kling's, so it is asked for as an external id.")
    print_family_advice(family)
    advice = no_daemon_sentence(daemons)
    if advice:
        print_note(advice)


def _check(
    context: typer.Context,
    *,
    task_id: str,
    family: str,
    external_task_id: str | None,
) -> None:
    """Ends with a usage error if a value breaks its rule."""
    for name, value in (("ID", task_id), ("--external-task-id", external_task_id)):
        if value is not None and not is_identifier(value):
            context.fail(f"{name} {IDENTIFIER_RULE}.")
        if value is not None and value != value.strip():
            context.fail(f"{name} begins or ends with a space: {value!r}.")
    rule = family_rule(family)
    if rule:
        context.fail(f"--family {rule}.")


def _kept_request(context: typer.Context, request: str | None) -> dict[str, object] | None:
    """Ends with a usage error if the manifest may not hold the request."""
    try:
        return kept_request(None if request is None else loads(request))
    except NotARegistration as error:
        context.fail(f"--{error}")
    except (ValueError, RecursionError):
        context.fail("--request must be JSON: the body of the create call.")


def _sentence(task_id: str, *, new: bool) -> str:
    if new:
        return f"{task_id} is registered; kling-receiver asks the API for it now."
    return f"{task_id} was known already; see: kling-archiver show {shlex.quote(task_id)}"


def print_family_advice(family: str) -> None:
    """An unknown family may be misspelled."""
    if family in FAMILIES:
        return
    near = similar(family)
    hint = f"; did you mean {near}?" if near else "."
    print_note(f"this version does not know the family {family} and will ask for /v1/{family}{hint}")
