"""Checks the registration of a task, and refuses with a sentence. No I/O.

The command line and `/api` share these rules. A registration only decides which id we follow: state, times and URLs
come from the API. `request` ends up in a manifest that every reader of the bucket sees. So it may hold no image data,
and its `callback_url`, which has the token in it, is left out.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping

from archiver.model import DAY_MS, FAMILY, api_time

IDENTIFIER_CHARACTERS_MAX = 256
"""The API documents no rule for external ids (archiver/kling/API.md 7)."""
IDENTIFIER_RULE = (
    f"must be a string of 1 to {IDENTIFIER_CHARACTERS_MAX} printable characters, and not only dots"
)
REQUEST_TEXT_CHARACTERS_MAX = 8192
"""Longer texts are image data; the longest prompt has 2500 characters."""
REQUEST_BYTES_MAX = 128 * 1024
_FIELDS = frozenset({"task_id", "family", "external_task_id", "account", "request", "created_at"})
_SECRET_FIELD = "callback_url"  # noqa: S105 -- the name of a field


class NotARegistration(ValueError):
    """The message is for the caller and repeats nothing that the caller sent."""


@dataclasses.dataclass(frozen=True, slots=True)
class Registration:
    task_id: str
    """Its id, or its external id."""
    family: str
    external_task_id: str | None = None
    account: str | None = None
    """None: the only account."""
    request: Mapping[str, object] | None = None
    created_at: int | None = None
    """Unix ms."""


def read(document: object, *, now: int) -> Registration:
    """`now` is Unix ms. Raises NotARegistration."""
    if not isinstance(document, dict):
        raise NotARegistration("The body is not a JSON object.")
    if not _FIELDS.issuperset(document):
        raise NotARegistration(
            f"The body has an unknown field; the known ones are {', '.join(sorted(_FIELDS))}."
        )
    task_id = document.get("task_id")
    external_task_id, account = document.get("external_task_id"), document.get("account")
    if account is not None and not isinstance(account, str):
        raise NotARegistration("account must be a string.")
    return Registration(
        task_id=_identifier(task_id, name="task_id"),
        family=_family(document.get("family")),
        external_task_id=(
            None if external_task_id is None else _identifier(external_task_id, name="external_task_id")
        ),
        account=account,
        request=kept_request(document.get("request")),
        created_at=_created_at(document.get("created_at"), now=now),
    )


def is_identifier(value: str) -> bool:
    """Whether this could be a task's id or external id."""
    is_printable = value.isprintable() and bool(value.strip())
    return is_printable and len(value) <= IDENTIFIER_CHARACTERS_MAX and value not in (".", "..")


def _identifier(value: object, *, name: str) -> str:
    if not isinstance(value, str) or not is_identifier(value):
        raise NotARegistration(f"{name} {IDENTIFIER_RULE}.")
    return value


def family_rule(value: object) -> str | None:
    """The broken rule as the rest of a sentence, or None."""
    bare = value.strip("/").removeprefix("v1/") if isinstance(value, str) else ""
    if not FAMILY.fullmatch(bare):
        return "must be two or three path segments of a-z, 0-9 and -, such as images/generations"
    return (
        None if bare == value else "takes the path without /v1 and outer slashes, such as images/generations"
    )


def _family(value: object) -> str:
    rule = family_rule(value)
    if rule is not None or not isinstance(value, str):
        raise NotARegistration(f"family {rule}.")
    return value


def kept_request(request: object) -> dict[str, object] | None:
    """What a manifest may hold of it. Raises NotARegistration."""
    if request is None:
        return None
    if not isinstance(request, dict):
        raise NotARegistration("request must be an object: the body of the create call.")
    kept = _without_callback_url(request)
    if any(len(text) > REQUEST_TEXT_CHARACTERS_MAX for text in _texts(kept)):
        raise NotARegistration(
            f"request has a text of more than {REQUEST_TEXT_CHARACTERS_MAX} characters: leave image data out."
        )
    try:
        length = len(json.dumps(kept, allow_nan=False))
    except (ValueError, RecursionError):
        raise NotARegistration("request is nested too deeply, or has a value that JSON does not.") from None
    if length > REQUEST_BYTES_MAX:
        raise NotARegistration(f"request has more than {REQUEST_BYTES_MAX} bytes: leave image data out.")
    return kept


def _without_callback_url(request: Mapping[str, object]) -> dict[str, object]:
    """`/v1` families have the field at the top, the new standard under `options`."""
    kept = {key: value for key, value in request.items() if key != _SECRET_FIELD}
    options = kept.get("options")
    if isinstance(options, dict):
        kept["options"] = {key: value for key, value in options.items() if key != _SECRET_FIELD}
    return kept


def _texts(value: object) -> Iterator[str]:
    """A loop: recursion would fail on deep nesting."""
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, str):
            yield inner
        elif isinstance(inner, dict):
            waiting += [*inner.keys(), *inner.values()]
        elif isinstance(inner, list):
            waiting += inner


def _created_at(value: object, *, now: int) -> int | None:
    if value is None:
        return None
    moment = api_time(value)
    if moment is None or isinstance(value, bool) or moment > now + DAY_MS:
        raise NotARegistration(
            "created_at must be a time in the past: Unix milliseconds as in Kling's answer, or RFC 3339."
        )
    return moment
