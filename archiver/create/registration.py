"""What somebody says when they register a task: checked, or refused with a sentence. No I/O.

The command line and `/api` take the same, so the rules stand here once. A registration is trusted with which id to
follow, and with nothing else: state, times and URLs come from the API.

What was asked for (`request`) ends up in a manifest, for whoever reads the bucket. So it may hold no image data, and
the `callback_url` is left out of it: the token in it opens the door.
"""

import dataclasses
import datetime
import json
from collections.abc import Iterator, Mapping

from archiver.model import DAY_MS, FAMILY, api_time

IDENTIFIER_CHARACTERS_MAX = 256
"""Which characters an external id may have is undocumented (archiver/kling/API.md 7): any that print."""
REQUEST_TEXT_CHARACTERS_MAX = 8192
"""Longer texts are image data: the longest prompt has 2500 characters."""
REQUEST_BYTES_MAX = 128 * 1024
_FIELDS = frozenset({"task_id", "family", "external_task_id", "account", "request", "created_at"})
_SECRET_FIELD = "callback_url"  # noqa: S105 -- the name of a field


class NotARegistration(ValueError):
    """The message is a sentence for whoever sent it, and holds nothing that they wrote."""


@dataclasses.dataclass(frozen=True, slots=True)
class Registration:
    """A task to be followed."""

    task_id: str
    """Its id or its external id."""
    family: str
    external_task_id: str | None = None
    account: str | None = None
    """None where whoever registers leaves it to there being only one."""
    request: Mapping[str, object] | None = None
    created_at: int | None = None
    """Unix ms."""


def read(document: object, *, now: int) -> Registration:
    """The registration in a JSON object; `now` in Unix ms. Raises NotARegistration."""
    if not isinstance(document, dict):
        raise NotARegistration("The body is not a JSON object.")
    if not _FIELDS.issuperset(document):
        raise NotARegistration(f"There is an unknown field: only {', '.join(sorted(_FIELDS))} are known.")
    task_id = document.get("task_id")
    external_task_id, account = document.get("external_task_id"), document.get("account")
    if account is not None and not isinstance(account, str):
        raise NotARegistration("account must be a string.")
    return Registration(
        task_id=identifier(task_id, name="task_id"),
        family=_family(document.get("family")),
        external_task_id=(
            None if external_task_id is None else identifier(external_task_id, name="external_task_id")
        ),
        account=account,
        request=asked_for(document.get("request")),
        created_at=_created_at(document.get("created_at"), now=now),
    )


def is_identifier(written: str) -> bool:
    """Whether this could be the id or the external id of a task; all else need not be looked for."""
    printable = written.isprintable() and bool(written.strip())
    return printable and len(written) <= IDENTIFIER_CHARACTERS_MAX and written not in (".", "..")


def identifier(written: object, *, name: str) -> str:
    """An id or external id; `name` is what to call it. Raises NotARegistration."""
    if not isinstance(written, str) or not is_identifier(written):
        raise NotARegistration(
            f"{name} must be a string of 1 to {IDENTIFIER_CHARACTERS_MAX} characters that print, and not only dots."
        )
    return written


def _family(written: object) -> str:
    if isinstance(written, str) and FAMILY.fullmatch(written):
        if written.startswith("v1/"):
            raise NotARegistration("family takes the path without /v1: images/generations.")
        return written
    raise NotARegistration(
        "family must be two or three path segments of a-z, 0-9 and -, such as images/generations."
    )


def asked_for(request: object) -> dict[str, object] | None:
    """What was asked for, as it may stand in a manifest. Raises NotARegistration."""
    if request is None:
        return None
    if not isinstance(request, dict):
        raise NotARegistration("request must be an object: the body of the create call.")
    kept = _without_callback_url(request)
    if any(len(text) > REQUEST_TEXT_CHARACTERS_MAX for text in _texts(kept)):
        raise NotARegistration(
            f"request holds a text of more than {REQUEST_TEXT_CHARACTERS_MAX} characters: leave image data out."
        )
    try:
        length = len(json.dumps(kept, allow_nan=False))
    except (ValueError, RecursionError):
        raise NotARegistration("request is nested too deeply, or holds what JSON cannot.") from None
    if length > REQUEST_BYTES_MAX:
        raise NotARegistration(f"request has more than {REQUEST_BYTES_MAX} bytes: leave image data out.")
    return kept


def _without_callback_url(request: Mapping[str, object]) -> dict[str, object]:
    """Without the field at the top (`/v1` families) and under `options` (the new standard)."""
    kept = {key: value for key, value in request.items() if key != _SECRET_FIELD}
    options = kept.get("options")
    if isinstance(options, dict):
        kept["options"] = {key: value for key, value in options.items() if key != _SECRET_FIELD}
    return kept


def _texts(value: object) -> Iterator[str]:
    """Every string in a JSON value; without recursion, so that no depth is too much."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            waiting += one


def _created_at(written: object, *, now: int) -> int | None:
    if written is None:
        return None
    moment = api_time(written)
    if isinstance(written, str) and moment is None:
        moment = _rfc3339(written)
    if moment is None or isinstance(written, bool) or moment > now + DAY_MS:
        raise NotARegistration(
            "created_at must be a time that has been: Unix milliseconds as in Kling's answer, or RFC 3339."
        )
    return moment


def _rfc3339(written: str) -> int | None:
    try:
        moment = datetime.datetime.fromisoformat(written)
    except ValueError:
        return None
    return round(moment.timestamp() * 1000) if moment.tzinfo is not None else None
