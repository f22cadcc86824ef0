"""Bytes of an unknown sender → `Callback`, or a sentence that says what is wrong. No I/O.

1. `parse` is total: it returns a value for any bytes (deep nesting, 5000-digit numbers, lone surrogates, NaN, no text).
2. It reads the task id, the status word, the time and the *names* of the non-empty result arrays. It never reads URLs:
   anyone may have written an unsigned callback (archiver/kling/API.md 1.5).

Each field is looked up in both dialects, because the callbacks of `/solutions` are undocumented.
"""

import codecs
import dataclasses
import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from archiver.model import STATUS_WORDS, TASK_ID, Callback, api_time

INTEGER_DIGITS_MAX = 400
"""Longer integers read as infinity; Python refuses more than 4300 digits."""
RESULT_ARRAYS_MAX = 16

_ARRAY_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")


@dataclasses.dataclass(frozen=True, slots=True)
class Malformed:
    """`reason` is a sentence for the sender, and repeats nothing that the sender wrote."""

    reason: str


class _OfUrl(NamedTuple):
    """What the URL of the callback says."""

    account: str
    family_hint: str | None
    create_reference: str | None


def parse(
    body: bytes, *, account: str, family_hint: str | None, create_reference: str | None = None
) -> Callback | Malformed:
    """The callback in `body`: a bare task object (as documented), or the task under `data`, whose envelope may have an
    id and a status of its own."""
    document = _decode(body)
    if isinstance(document, Malformed):
        return document
    of_url = _OfUrl(account, family_hint, create_reference)
    callback = _read(document, of_url)
    wrapped = document.get("data")
    if not isinstance(wrapped, dict):
        return callback
    inner = _read(wrapped, of_url)
    return callback if isinstance(inner, Malformed) and isinstance(callback, Callback) else inner


def _decode(body: bytes) -> dict[str, object] | Malformed:
    try:
        document = _json(body.removeprefix(codecs.BOM_UTF8).decode())
    except UnicodeDecodeError:
        return Malformed("The body is not UTF-8.")
    except RecursionError:
        return Malformed("The body is nested too deeply.")
    except ValueError:
        return Malformed("The body is not JSON.")
    if not isinstance(document, dict):
        return Malformed("The body is not a JSON object.")
    return document


def _read(document: Mapping[str, object], of_url: _OfUrl) -> Callback | Malformed:
    task_id = _task_id(_either(document, "task_id", "id"))
    if isinstance(task_id, Malformed):
        return task_id
    word = _either(document, "task_status", "status")
    if not isinstance(word, str) or not word:
        return Malformed("There is no status: task_status or status must be a non-empty string.")
    return Callback(
        account=of_url.account,
        task_id=task_id,
        status=STATUS_WORDS.get(word),
        family_hint=of_url.family_hint,
        updated_at=api_time(_either(document, "updated_at", "update_time")),
        result_arrays=_result_arrays(document),
        is_console_test=_is_console_test(document),
        create_reference=of_url.create_reference,
    )


def _is_console_test(document: Mapping[str, object]) -> bool:
    """Whether it looks like the developer console's test (archiver/kling/API.md 1.5). So may a genuine first callback:
    this only helps to forget an id that the API does not know."""
    created = document.get("create_time")
    return (
        document.get("task_id") is None
        and document.get("status") == "submitted"
        and document.get("outputs") == []
        and document.get("message") == ""
        and created is not None
        and created == document.get("update_time")
    )


def _task_id(value: object) -> str | Malformed:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        return Malformed("There is no id: task_id or id must be a string or an integer.")
    if not TASK_ID.fullmatch(value):
        return Malformed("The id is not 1 to 128 characters of A-Z a-z 0-9 . _ ~ - (and not . or ..).")
    return value


def _either(document: Mapping[str, object], name: str, other: str) -> object:
    value = document.get(name)
    return document.get(other) if value is None else value


def _result_arrays(document: Mapping[str, object]) -> tuple[str, ...]:
    """Legacy arrays are in `task_result`; the new dialect has only `outputs`, at the top."""
    result = document.get("task_result")
    arrays = {**(result if isinstance(result, dict) else {}), "outputs": document.get("outputs")}
    filled = [name for name, rows in arrays.items() if isinstance(rows, list) and rows]
    return tuple(name for name in filled if _ARRAY_NAME.fullmatch(name))[:RESULT_ARRAYS_MAX]


def _json(text: str) -> object:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a number that is too long
        return _PATIENT_DECODER.decode(text)


def _integer(digits: str) -> float | int:
    return int(digits) if len(digits) <= INTEGER_DIGITS_MAX else float("inf")


def _no_value(_name: str) -> None:
    """NaN and Infinity are not JSON. They cost a callback only where it needs the field."""


_DECODER = json.JSONDecoder(parse_constant=_no_value)
_PATIENT_DECODER = json.JSONDecoder(parse_int=_integer, parse_constant=_no_value)
