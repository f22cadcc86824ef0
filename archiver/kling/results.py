"""One task object of the API's answer → a `Task`: where its results sit, and what their files will be called. No I/O.

Two rules:

1. Nothing is dropped. Every array of `task_result` (and `outputs`, in the new standard) is scanned; a URL in
   a place that no table knows becomes an asset all the same, and is reported in `unknown_fields`.
2. `read_task` takes any JSON and returns a `Task` or raises `ApiAnswerUnreadable`; nothing else escapes it.

Names. The place of a row gives the stem (`0`, `series-0`), the field adds to it (`0.watermark`, `0-1`). Two
fields of an audio row say their format: their stems carry it (`audio-0.mp3`, `audio-0.wav`), since stems must
be unique within a task, and `file_name` does not say it twice. Should two fields still ask for one
name, the one further down in `URL_FIELDS` gets `.2`: fields that we know never lose their name to one that
we do not, so a name does not depend on which answer (list or single) was read first.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence

from archiver import model
from archiver.failures import ApiAnswerUnreadable
from archiver.families import OUTPUTS, PLACES, ROLE_OF_ARRAY, ROLE_OF_OUTPUT_TYPE, URL_FIELDS
from archiver.model import Asset, Role, Status, Task

URL_CHARACTERS_MAX = 65_536
INDEX_MAX = 999_999
"""A larger index is no index: it would only make absurd file names."""
UNKNOWN_FIELDS_MAX = 20
NAME_CHARACTERS_MAX = 64
_FORMATS = ("mp3", "wav")
"""The formats that a field's name may say, and hence a stem."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    """A URL inside a row; `rank` is its place in `URL_FIELDS`, or past the end for one we do not know."""

    rank: int
    path: str
    url: str
    suffix: str
    watermarked: bool

    @property
    def known(self) -> bool:
        return self.rank < len(URL_FIELDS)


@dataclasses.dataclass(frozen=True, slots=True)
class _Draft:
    """An asset before its stem is known to be unique."""

    stem: str
    found: _Found
    role: Role
    index: int | None


def read_task(document: object, *, family: str) -> Task:
    """One task object of either standard, out of a query, a list row or `/tasks`.

    The document itself goes into the `Task` unchanged. Ids may be strings or integers; the words of both
    standards are understood. A row without a URL adds no asset but is reported once the task succeeded.

    Raises `ApiAnswerUnreadable` when there is no usable id or no known status.
    """
    if not isinstance(document, dict):
        raise ApiAnswerUnreadable(f"A task that is no JSON object but {_kind(document)}.")
    status = _status(_first(document, "task_status", "status"))
    task_id = _task_id(document)
    drafts, unknown = _scan(document)
    return Task(
        task_id=task_id,
        family=family,
        status=status,
        message=_message(document) if status is Status.FAILED else "",
        created_at=model.api_time(_first(document, "created_at", "create_time")),
        updated_at=model.api_time(_first(document, "updated_at", "update_time")),
        external_task_id=_external_id(document),
        assets=_named(drafts),
        document=document,
        unknown_fields=_reported(unknown, status=status),
    )


def readable_id(document: object) -> str | None:
    """The id of a row that may be malformed otherwise; None when not even that can be read."""
    try:
        return _task_id(document) if isinstance(document, dict) else None
    except ApiAnswerUnreadable:
        return None


def readable_external_id(document: object) -> str | None:
    """The external id of a row that may be malformed otherwise; None where it has none."""
    return _external_id(document) if isinstance(document, dict) else None


def file_name(stem: str, *, extension: str) -> str:
    """What the file of an asset is called once its bytes have told the extension (`png`, `mp3`).

    Unique within a task because stems are: a stem that says its format already (`audio-0.mp3`) is not given
    it twice, and keeps it when the bytes are something else (`audio-0.mp3.wav`).
    """
    told = extension in _FORMATS and stem.endswith(f".{extension}")
    return stem if told else f"{stem}.{extension}"


# --- what stands beside the results ---------------------------------------------------------------------


def _first(document: Mapping[str, object], *names: str) -> object:
    """The first of these fields that says anything: the two standards spell them differently."""
    return next((document[name] for name in names if document.get(name) not in (None, "")), None)


def _status(word: object) -> Status:
    status = model.STATUS_WORDS.get(word.strip().lower()) if isinstance(word, str) else None
    if status is None:
        said = repr(_safe(word)) if isinstance(word, str) else _kind(word)
        raise ApiAnswerUnreadable(f"A task whose status is none that this version knows: {said}.")
    return status


def _task_id(document: Mapping[str, object]) -> str:
    text = _identifier(_first(document, "task_id", "id"))
    if text is None or model.TASK_ID.fullmatch(text) is None:
        raise ApiAnswerUnreadable("A task without an id of 1 to 128 safe characters.")
    return text


def _identifier(value: object) -> str | None:
    """Ids are strings; a gateway that writes one as a number is understood while it is a whole one."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**128:
        return str(value)
    return None


def _external_id(document: Mapping[str, object]) -> str | None:
    info = document.get("task_info")
    of_legacy = info.get("external_task_id") if isinstance(info, dict) else None
    value = of_legacy or _first(document, "external_id", "external_task_id")
    return model.text(_identifier(value)) or None


def _message(document: Mapping[str, object]) -> str:
    return model.text(_first(document, "task_status_msg", "message"))


def _kind(value: object) -> str:
    """What JSON calls the type of a value; the value itself is never repeated."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


# --- the results ----------------------------------------------------------------------------------------


def _scan(document: Mapping[str, object]) -> tuple[list[_Draft], set[str]]:
    drafts: list[_Draft] = []
    unknown: set[str] = set()
    for name, rows in _arrays(document):
        place_is_name = not _indexes_name_rows(rows)
        for place, row in enumerate(rows):
            role = _role(name, row)
            index = _index(row)
            base = f"{_prefix(name, role)}{place if place_is_name else index}"
            found = _urls(row)
            drafts += [_draft(base, url, role=role, index=index) for url in found]
            unknown |= _surprises(name, place, found=found, role=role) | _links(name, row, found=found)
    return drafts, unknown | _links("task_result", _scalars(document.get("task_result")), found=())


def _arrays(document: Mapping[str, object]) -> Iterator[tuple[str, list[object]]]:
    """(name, rows) of everything below `task_result`, then `outputs`; known arrays first, the others by name,
    so that names never depend on the order in which a server happened to write them.

    One object in place of an array counts as its only row (the documentation has such slips). An array that the table
    knows may also stand beside `task_result`: where those of solutions stand is not documented.
    """
    result = document.get("task_result")
    held = result if isinstance(result, dict) else {"task_result": result}
    held = held | {
        name: document[name] for name in ROLE_OF_ARRAY if document.get(name) and not held.get(name)
    }
    order = {name: place for place, name in enumerate(ROLE_OF_ARRAY)}
    for name in sorted(held, key=lambda name: (order.get(name, len(order)), name)):
        yield name, _rows(name, held[name])
    yield OUTPUTS, _rows(OUTPUTS, document.get(OUTPUTS))


def _rows(name: str, value: object) -> list[object]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return [value] if value else []
    # A string, number or null is no array; as a field of `task_result` it may still be a URL.
    return [value] if isinstance(value, str) and "url" in name.lower() and _is_web(value) else []


def _role(name: str, row: object) -> Role:
    kind = row.get("type") if name == OUTPUTS and isinstance(row, dict) else None
    known = ROLE_OF_OUTPUT_TYPE.get(kind) if isinstance(kind, str) else ROLE_OF_ARRAY.get(name)
    return known or Role.OTHER


def _prefix(name: str, role: Role) -> str:
    return PLACES[role].stem_prefix if role in PLACES else f"{_safe(name)}-"


def _index(row: object) -> int | None:
    """The API's own index: an integer, or its decimal digits as a string (ids went that way, too). A boolean,
    a float or a negative number is none."""
    value = row.get("index") if isinstance(row, dict) else None
    if isinstance(value, str) and re.fullmatch(r"0|[1-9][0-9]{0,5}", value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= INDEX_MAX:
        return value
    return None


def _indexes_name_rows(rows: Sequence[object]) -> bool:
    """Whether every row has an index and no two have the same one."""
    indexes = [_index(row) for row in rows]
    return None not in indexes and len(set(indexes)) == len(indexes)


def _urls(row: object) -> list[_Found]:
    """The URLs of one row, known fields first. A bare string in the place of a row counts as its `url`."""
    fields = {"url": row} if isinstance(row, str) and _is_web(row) else row
    found = [url for path, value in _strings(fields) if (url := _url(path, value)) is not None]
    return sorted(found, key=lambda url: (url.rank, url.path))


def _strings(row: object) -> Iterator[tuple[tuple[str, ...], str]]:
    """(path, string) for every string inside a row, however deep, without recursion: nesting is input."""
    waiting: list[tuple[tuple[str, ...], object]] = [((), row)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            yield path, value
        elif isinstance(value, dict):
            waiting += [((*path, str(name)), inner) for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [((*path, str(place)), inner) for place, inner in enumerate(value)]


def _url(path: tuple[str, ...], value: str) -> _Found | None:
    url = value.replace("\0", "").strip()
    if not url:
        return None
    dotted = ".".join(path)
    for rank, field in enumerate(URL_FIELDS):
        if matched := field.path.fullmatch(dotted):
            return _Found(rank, dotted, _sound(url), matched.expand(field.suffix), field.watermarked)
    if _is_web(url) and any("url" in name.lower() for name in path):
        suffix = "." + ".".join(_safe(name) for name in path)
        return _Found(len(URL_FIELDS), dotted, _sound(url), _short(suffix), "watermark" in dotted)
    return None


def _sound(url: str) -> str:
    """A URL that can be stored. Cutting one would break its signature, so a monstrous one is refused."""
    if len(url) > URL_CHARACTERS_MAX:
        raise ApiAnswerUnreadable(f"A result URL of more than {URL_CHARACTERS_MAX} characters.")
    return model.text(url, limit=URL_CHARACTERS_MAX)


def _is_web(value: str) -> bool:
    return value.strip()[:8].lower().startswith(("http://", "https://"))


def _draft(base: str, found: _Found, *, role: Role, index: int | None) -> _Draft:
    return _Draft(base + found.suffix, found, role if found.known else Role.OTHER, index)


def _surprises(name: str, place: int, *, found: Sequence[_Found], role: Role) -> set[str]:
    """What an operator should hear of in one row; see `Task.unknown_fields`."""
    label = _safe(name)
    surprises = {f"{label}[].{_short(_safe(url.path))}" for url in found if not url.known}
    if role is Role.OTHER:
        surprises.add(f"{label}[]")
    if not any(url.known for url in found) and role is not Role.OTHER:
        surprises.add(f"{label}[{place}] without a URL")
    return surprises


def _links(name: str, row: object, *, found: Sequence[_Found]) -> set[str]:
    """Links that are not taken for results, since nothing in their names says so: a help page among a task's files
    would keep it from its manifest. They stay in the document, and an operator hears of them."""
    taken = {url.path for url in found}
    paths = [".".join(path) for path, value in _strings(row) if path and _is_web(value)]
    return {f"{_safe(name)}[].{_short(_safe(path))} not fetched" for path in paths if path not in taken}


def _scalars(result: object) -> object:
    """The fields of `task_result` that are no arrays, without those that `_rows` has taken for results."""
    if not isinstance(result, dict):
        return {}
    return {
        name: value for name, value in result.items() if isinstance(value, str) and not _rows(name, value)
    }


def _reported(unknown: set[str], *, status: Status) -> tuple[str, ...]:
    """A URL may well be missing before the task has succeeded; after that it is worth a line in the log."""
    told = sorted(
        name for name in unknown if status is Status.SUCCEEDED or not name.endswith("without a URL")
    )
    return tuple(told[:UNKNOWN_FIELDS_MAX])


# --- names ----------------------------------------------------------------------------------------------


def _named(drafts: Sequence[_Draft]) -> tuple[Asset, ...]:
    """Assets with stems unique within the task; known fields choose first."""
    taken: set[str] = set()
    stems: dict[int, str] = {}
    for place in sorted(range(len(drafts)), key=lambda place: drafts[place].found.rank):
        stems[place] = _free(drafts[place].stem, taken)
        taken.add(stems[place])
        # `audio-0` could become audio-0.mp3, which is what `audio-0.mp3` will be called.
        taken.update(f"{stems[place]}.{format_}" for format_ in _FORMATS)
        taken.update(stems[place].removesuffix(f".{format_}") for format_ in _FORMATS)
    return tuple(
        Asset(
            stem=stems[place],
            url=draft.found.url,
            role=draft.role,
            index=draft.index,
            watermarked=draft.found.watermarked,
        )
        for place, draft in enumerate(drafts)
    )


def _free(stem: str, taken: set[str]) -> str:
    turn = 1
    candidate = stem
    while candidate in taken:
        turn += 1
        candidate = f"{stem}.{turn}"
    return candidate


def _safe(name: str) -> str:
    """A name from outside, made fit for a key, a log line and a file name."""
    return _short(re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip(".-") or "unnamed")


def _short(name: str) -> str:
    if len(name) <= NAME_CHARACTERS_MAX:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{name[: NAME_CHARACTERS_MAX - 9]}-{digest}"
