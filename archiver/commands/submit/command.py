"""`submit`: create a task, and with `--wait` follow it into the bucket."""

import contextlib
import secrets
from collections.abc import Mapping
from typing import Any

import typer

from archiver.commands.submit.body import Sides, body_of
from archiver.commands.submit.progress import SubmitProgress
from archiver.commands.submit.run import SubmitRun
from archiver.commands.tasks.register import print_family_advice
from archiver.commands.terminal.invocation import chosen_account, invocation_of
from archiver.commands.terminal.printing import print_note
from archiver.composition.accounts import require_account
from archiver.config.settings import Need, Settings, SettingsError
from archiver.create import request, rules
from archiver.create.registration import IDENTIFIER_RULE, family_rule, is_identifier
from archiver.create.submitter import Submission
from archiver.families import FAMILIES
from archiver.redaction import Redaction

_Text = str | None
_Number = float | None


def submit(
    context: typer.Context,
    *,
    family: str,
    more: list[str] | None,
    prompt: _Text,
    negative_prompt: _Text,
    model: _Text,
    image: _Text,
    image_reference: _Text,
    image_fidelity: _Number,
    human_fidelity: _Number,
    resolution: _Text,
    n: int | None,
    aspect_ratio: _Text,
    watermark: bool,
    up: _Number,
    down: _Number,
    left: _Number,
    right: _Number,
    target_ratio: _Text,
    area: _Number,
    image_size: _Text,
    body: _Text,
    no_check: bool,
    external_task_id: _Text,
    wait: bool,
    timeout: _Number,
    account: str | None,
    json: bool,
) -> None:
    """What `usage.submit` says."""
    _refuse_more(context, more or [], json=json)
    options = {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "model_name": model,
        "image": image,
        "image_reference": image_reference,
        "image_fidelity": image_fidelity,
        "human_fidelity": human_fidelity,
        "resolution": resolution,
        "n": n,
        "aspect_ratio": aspect_ratio,
        "watermark_info": {"enabled": True} if watermark else None,
        "external_task_id": external_task_id,
    }
    sides = Sides(up, down, left, right, target_ratio, area, image_size)
    _check_family(context, family)
    try:
        whole = body_of(body, options, sides)
    except ValueError as error:
        context.fail(f"{error}.")
    _check_body(context, family, whole, check=not no_check)
    _run(
        context,
        family,
        whole,
        is_checked=not no_check,
        wait=wait,
        timeout=timeout,
        account=account,
        json=json,
    )


def _run(
    context: typer.Context,
    family: str,
    body: Mapping[str, Any],
    *,
    is_checked: bool,
    wait: bool,
    timeout: float | None,
    account: str | None,
    json: bool,
) -> None:
    """Create the task, and follow it where that is wanted. Raises SettingsError."""
    invocation = invocation_of(context)
    all_settings = invocation.settings(Need.KLING, Need.CALLBACK_URL)
    settings = chosen_account(context, all_settings, name=account)
    print_family_advice(family)
    if family in FAMILIES and family not in rules.RULES and is_checked:
        print_note(f"this version has no rules for {family}: the body is sent unchecked.")
    submission = _submission(settings, family, body)
    progress = SubmitProgress(
        now=invocation.now,
        wait=invocation.wait,
        timeout_seconds=timeout,
        slots=request.slots_of(family, submission.body),
        redact=Redaction(settings.secrets()).text,
    )
    with contextlib.closing(invocation.ledger(settings)) as ledger:
        require_account(ledger, all_settings)
        run = SubmitRun(settings, ledger, progress, submission, as_json=json)
        with progress:
            run.create()
            if wait:
                run.follow()
        run.finish(waited=wait)


def _refuse_more(context: typer.Context, more: list[str], *, json: bool) -> None:
    """`--json BODY` gave the body once, and prints JSON as it does everywhere now: nothing is created by mistake."""
    if not more:
        return
    if json and more[0][:1] in ("{", "[", "@", "-"):
        context.fail("--json prints JSON; give the API's own body with --body. Nothing was sent.")
    context.fail(f"Got unexpected extra argument ({more[0]})")


def _check_family(
    context: typer.Context,
    family: str,
) -> None:
    rule = family_rule(family)
    if rule:
        context.fail(f"FAMILY {rule}.")
    if family in rules.SYNCHRONOUS:
        context.fail(f"{family} answers at once and makes no task, so there is nothing to archive.")


def _check_body(context: typer.Context, family: str, body: Mapping[str, Any], *, check: bool) -> None:
    external_id = body.get("external_task_id")
    is_usable = external_id in (None, "") or (isinstance(external_id, str) and is_identifier(external_id))
    if not is_usable:
        context.fail(f"external_task_id {IDENTIFIER_RULE}.")
    problems = rules.problems(family, body) if check else []
    if problems:
        context.fail("\n".join([*problems, "Nothing was sent. To send it unchecked: --no-check."]))


def _submission(settings: Settings, family: str, body: Mapping[str, Any]) -> Submission:
    """Add our external id and callback URL to the body, unless it has its own. Raises SettingsError."""
    whole = dict(body)
    has_own_id = not whole.get("external_task_id")
    if has_own_id:
        whole["external_task_id"] = request.new_external_id(secrets.token_hex(16))
    is_swept = family in settings.families
    trail = "registration and sweep" if is_swept else f"registration (KLING_FAMILIES does not name {family})"
    if whole.get("callback_url"):
        print_note(f"callbacks go to the callback_url in the body; we follow the task by {trail}.")
    elif settings.public_url is None:
        whole.pop("callback_url", None)
        print_note(f"KLING_PUBLIC_URL is not set, so no callback will come; we follow the task by {trail}.")
    else:
        whole["callback_url"] = _callback_url(settings, settings.public_url, family)
    return Submission(
        family=family,
        body=whole,
        external_id=whole["external_task_id"],
        has_own_id=has_own_id,
        request=request.request_of(whole),
    )


def _callback_url(settings: Settings, public_url: str, family: str) -> str:
    if not settings.callback_token:
        raise SettingsError(
            ["KLING_PUBLIC_URL needs KLING_CALLBACK_TOKEN, which is part of the callback URL: set both"]
        )
    token = settings.callback_token[0].get_secret_value()
    return request.callback_url(public_url, token=token, family=family)
