"""An answer of the Kling API: bytes → envelope → data or failure. No I/O.

1. For any bytes the outcome is an `ApiResponse` or one of `failures`.
2. One bad row must not cost a page. What parses but cannot be stored in a manifest (a key with two values, absurd
   nesting) is marked while parsing; `sound` refuses only the row that has it. A number that JSON cannot hold (NaN,
   Infinity, 1e999, endless digits) becomes null: it costs a task only where the task needs it.
3. Broken text is mended with U+FFFD, and a raw line end in a string is taken: a message cut inside an emoji must not
   keep a finished task out of the bucket.
4. API.md 3 has the error table. The code overrides the HTTP status: 429 is "too fast" or "pay your bill".
"""

import contextlib
import dataclasses
import json
import re
from collections.abc import Mapping

from archiver import failures
from archiver.failures import ApiAnswerUnreadable, ApiEnvelopeMissing, Failure
from archiver.model import Place

DEPTH_MAX = 64
DIGITS_MAX = 1000
"""Longer integers become null: Python refuses to write more than 4300 digits into a manifest."""
DATA: Place = ("data",)
_WINDOW_FIELDS = frozenset({"count", "has_more", "next_cursor"})

FAILURES: Mapping[int, type[Failure]] = {
    1000: failures.ApiCredentialsRefused,
    1001: failures.ApiCredentialsRefused,
    1002: failures.ApiCredentialsRefused,
    1003: failures.ApiTokenRefused,
    1004: failures.ApiTokenRefused,
    1100: failures.ApiAccountAbnormal,
    1101: failures.ApiAccountInArrears,
    1102: failures.ApiPackUsedUp,
    1103: failures.ApiForbidden,
    1200: failures.ApiRequestInvalid,
    1201: failures.ApiBadParameter,
    1202: failures.ApiRequestInvalid,
    1203: failures.ApiModelMissing,
    1300: failures.ApiPolicyTriggered,
    1301: failures.ApiContentRefused,
    1302: failures.ApiRateLimited,
    1303: failures.ApiConcurrencyExceeded,
    1304: failures.ApiAddressNotAllowed,
    5000: failures.ApiServerError,
    5001: failures.ApiMaintenance,
    5002: failures.ApiServerError,
}


@dataclasses.dataclass(frozen=True, slots=True)
class ApiResponse:
    """The documented envelope. `data` may contain `Unsound`: see `sound`."""

    code: int
    message: str
    request_id: str
    data: object


@dataclasses.dataclass(frozen=True, slots=True)
class Unsound:
    """Stands in parsed JSON for a value that cannot be stored."""

    reason: str


def read_answer(body: bytes) -> ApiResponse:
    """Raises `ApiEnvelopeMissing` unless it is an object with a numeric `code`, perhaps in a string."""
    envelope = _parse(body)
    if not isinstance(envelope, dict):
        raise ApiEnvelopeMissing("The API's answer is JSON but no object.")
    code = _code(envelope.get("code"))
    if code is None:
        raise ApiEnvelopeMissing("The API's answer has no numeric code.")
    message, request_id = envelope.get("message"), envelope.get("request_id")
    return ApiResponse(
        code=code,
        message=message if isinstance(message, str) else "",
        request_id=request_id if isinstance(request_id, str) else "",
        data=envelope.get("data"),
    )


def rows_of(answer: ApiResponse) -> list[object]:
    """The task objects of an answer. `data` is an array, one object (for a list, too, on one page of the
    documentation), the object of `/tasks` around `result` (left out or null where there are no rows), or null. Raises
    `ApiAnswerUnreadable` otherwise."""
    return [row for _, row in placed_rows(answer)]


def placed_rows(answer: ApiResponse) -> list[tuple[Place, object]]:
    """`rows_of` with the place of each row in the answer. Raises `ApiAnswerUnreadable`."""
    data, place = answer.data, DATA
    if isinstance(data, dict) and "task_id" not in data:
        if isinstance(data.get("result"), list):
            data, place = data["result"], (*place, "result")
        elif data.get("result") is None and data.keys() & _WINDOW_FIELDS and not data.get("count"):
            data = None
    if data is None or data == {}:
        return []
    if isinstance(data, list):
        return [((*place, number), row) for number, row in enumerate(data)]
    if isinstance(data, dict):
        return [(place, data)]
    raise ApiAnswerUnreadable("The API's answer has data that is neither an object nor an array.")


def sound(value: object, *, depth: int = 0) -> object:
    """The same JSON with broken characters replaced. Raises `ApiAnswerUnreadable` for what cannot be stored."""
    if depth > DEPTH_MAX:
        raise ApiAnswerUnreadable(f"JSON nested deeper than {DEPTH_MAX} levels.")
    if isinstance(value, Unsound):
        raise ApiAnswerUnreadable(value.reason)
    if isinstance(value, str):
        return mended(value)
    if isinstance(value, list):
        return [sound(inner, depth=depth + 1) for inner in value]
    if isinstance(value, dict):
        return {mended(name): sound(inner, depth=depth + 1) for name, inner in value.items()}
    return value


def sound_fields(row: object) -> dict[str, object]:
    """The fields of a row that can be stored."""
    fields: dict[str, object] = {}
    for name, value in row.items() if isinstance(row, dict) else ():
        with contextlib.suppress(ApiAnswerUnreadable):
            fields[mended(name)] = sound(value, depth=1)
    return fields


def failure(
    *, status: int, code: int | None, message: str, family: str | None, by_id: bool = False
) -> Failure:
    """What a refused request means. `code` is None where none could be read; `message` is the failure's whole sentence.

    1201 is both "bad parameter" and "no such task", and only changeable text tells them apart. A query by id has no
    other parameter, so 1201 there is an unknown id. A mistake is cheap: an unknown task is asked for again, never
    buried.
    """
    kind = _kind(status=status, code=code)
    is_absent = status in (404, 410) and issubclass(kind, failures.ApiBadParameter) and code != 1201
    if by_id and (is_absent or kind is failures.ApiModelMissing):
        kind = failures.TaskNotShown
    if by_id and code == 1201 and kind is failures.ApiBadParameter:
        kind = failures.TaskNotFound
    return kind(message, family=family if kind is failures.ApiForbidden else None)


def _kind(*, status: int, code: int | None) -> type[Failure]:
    if code == 1302:
        return failures.ApiRateLimited
    if status >= 500 and (code is None or code < 5000):
        return failures.ApiServerError  # lower codes do not fit: a gateway failed
    if code is not None and code in FAILURES:
        return FAILURES[code]
    if status >= 500:
        return failures.ApiServerError
    return _kind_of_status(status, code=code) if status >= 400 else _kind_of_unlisted(code)


def _kind_of_status(status: int, *, code: int | None) -> type[Failure]:
    """The failure for a 4xx without a known code; `code` is None if the answer has none.

    403 alone is not `ApiForbidden`: the API sends code 1103, firewalls send HTML.
    """
    by_status: Mapping[int, type[Failure]] = {
        401: failures.ApiCredentialsRefused,
        403: failures.ApiEnvelopeMissing,
        408: failures.ApiTimeout,
        429: failures.ApiRateLimited,
    }
    by_code = failures.ApiRefusedWithoutCode if code is None else failures.ApiBadParameter
    return by_status.get(status, by_code)


def _kind_of_unlisted(code: int | None) -> type[Failure]:
    """The failure for a success status with an unknown code."""
    if code is None:
        return failures.ApiEnvelopeMissing
    return failures.ApiServerError if code >= 5000 else failures.ApiBadParameter


# --- parsing --------------------------------------------------------------------------------------------


def _parse(body: bytes) -> object:
    text = body.decode("utf-8-sig", errors="replace")
    if not text.strip():
        raise ApiEnvelopeMissing("The API's answer is empty.")
    try:
        parsed: object = json.loads(
            text,
            strict=False,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_real,
            parse_constant=lambda _: None,
        )
    except (ValueError, RecursionError):
        raise ApiEnvelopeMissing("The API's answer is no JSON.") from None
    return parsed


def _object(pairs: list[tuple[str, object]]) -> object:
    """A key with two different values has no value to rely on."""
    parsed: dict[str, object] = {}
    for name, value in pairs:
        if name in parsed and parsed[name] != value:
            return Unsound("JSON with a key that is there twice with two values.")
        parsed[name] = value
    return parsed


def _integer(digits: str) -> object:
    return int(digits) if len(digits) <= DIGITS_MAX else None


def _real(digits: str) -> object:
    value = float(digits)
    return value if abs(value) != float("inf") else None


def _code(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def mended(text: str) -> str:
    """`text` with broken characters replaced."""
    return text if text.isascii() else re.sub("[\ud800-\udfff]", "\ufffd", text)
