"""One task object of an answer → a `Task`: where its results sit, and what their files are called. No I/O.

1. Nothing is dropped: a URL in a place that no table knows becomes an asset too, reported in `unknown_fields`. Only a
   watermark's field may hold something else, "None" or "-", and then there is no watermark: most tasks have none.
2. For any JSON `read_task` returns a `Task` or raises `ApiAnswerUnreadable`.

A row's place gives the stem of a name (`0`, `series-0`), the field adds to it (`0.watermark`, `0-1`). Stems are unique
within a task, so the two fields of an audio row add their format (`audio-0.mp3`, `audio-0.wav`). Where two fields give
one name, the later in `URL_FIELDS` gets `.2`. A known field never loses its name to an unknown one, so names do not
depend on which answer (list or single) was read first.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence

from archiver import model
from archiver.failures import ApiAnswerUnreadable
from archiver.families import OUTPUTS, PLACES, ROLE_OF_ARRAY, ROLE_OF_OUTPUT_TYPE, STEM_FORMATS, URL_FIELDS
from archiver.model import Asset, Place, Role, Status, Task

URL_CHARACTERS_MAX = 65_536
INDEX_MAX = 999_999
"""A larger index is none: it would make absurd file names."""
UNKNOWN_FIELDS_MAX = 20
NAME_CHARACTERS_MAX = 64
_WEB = re.compile(r"\s*https?://[^\s/?#]", re.IGNORECASE)
_URL_ENDS = "".join(map(chr, range(0x21)))
"""What browsers cut off at the ends of a URL. A no-break space there belongs to it."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    """A URL inside a row; `rank` says which of `URL_FIELDS` it is, past the end if unknown."""

    rank: int
    path: str
    steps: Place
    """Its place in the row."""
    url: str
    suffix: str
    watermarked: bool

    @property
    def known(self) -> bool:
        return self.rank < len(URL_FIELDS)


@dataclasses.dataclass(frozen=True, slots=True)
class _Draft:
    """An asset whose stem is not yet unique."""

    stem: str
    found: _Found
    role: Role
    index: int | None
    place: Place


@dataclasses.dataclass(frozen=True, slots=True)
class ResultArray:
    """The rows of one array of a task object."""

    name: str
    rows: Sequence[object]
    places: Sequence[Place]
    """Of each row, in the task object."""


def read_task(document: object, *, family: str) -> Task:
    """Read a task object of either standard, which goes into the `Task` unchanged.

    A row without a URL adds no asset; it is reported once the task has succeeded. Raises `ApiAnswerUnreadable` without
    a usable id or a known status.
    """
    if not isinstance(document, dict):
        raise ApiAnswerUnreadable(f"A task that is no JSON object but {_kind(document)}.")
    try:
        return _read_task(document, family=family)
    except ApiAnswerUnreadable as error:
        error.shown = unread_task(document, family=family, why=str(error))
        raise


def unread_task(document: Mapping[str, object], *, family: str, why: str) -> Task | None:
    """The task of a row that cannot be read; None without its id or its creation time."""
    task_id = readable_id(document)
    created_at = model.api_time(_first(document, "created_at", "create_time"))
    if task_id is None or created_at is None:
        return None
    return Task(
        task_id=task_id,
        family=family,
        status=Status.RUNNING,
        message=why,
        created_at=created_at,
        updated_at=model.api_time(_first(document, "updated_at", "update_time")),
        external_task_id=_external_id(document),
        assets=(),
        document=document,
        is_unread=True,
    )


def _read_task(document: Mapping[str, object], *, family: str) -> Task:
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
    """The id of a row, malformed or not."""
    try:
        return _task_id(document) if isinstance(document, dict) else None
    except ApiAnswerUnreadable:
        return None


def readable_external_id(document: object) -> str | None:
    """The external id of a row, malformed or not."""
    return _external_id(document) if isinstance(document, dict) else None


# --- id, status, message --------------------------------------------------------------------------------


def _first(document: Mapping[str, object], *names: str) -> object:
    """The first of these fields with a value: the two standards spell them differently."""
    return next((document[name] for name in names if document.get(name) not in (None, "")), None)


def _status(word: object) -> Status:
    status = model.STATUS_WORDS.get(word.strip().lower()) if isinstance(word, str) else None
    if status is None:
        shown = repr(_safe(word)) if isinstance(word, str) else _kind(word)
        raise ApiAnswerUnreadable(f"A task whose status is none that this version knows: {shown}.")
    return status


def _task_id(document: Mapping[str, object]) -> str:
    text = _identifier(_first(document, "task_id", "id"))
    if text is None or model.TASK_ID.fullmatch(text) is None:
        raise ApiAnswerUnreadable("A task without an id of 1 to 128 safe characters.")
    return text


def _identifier(value: object) -> str | None:
    """Ids are strings; a gateway may write one as a whole number."""
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
    """The JSON type; messages never repeat the value."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


# --- the results ----------------------------------------------------------------------------------------


def _scan(document: Mapping[str, object]) -> tuple[list[_Draft], set[str]]:
    drafts: list[_Draft] = []
    unknown: set[str] = set()
    for array in result_arrays(document):
        name = array.name
        number_is_name = not _indexes_name_rows(array.rows)
        for number, row in enumerate(array.rows):
            role = _role(name, row)
            index = _index(row)
            base = f"{_prefix(name, role)}{number if number_is_name else index}"
            found = _urls(row)
            drafts += [_draft(base, url, role=role, index=index, row=array.places[number]) for url in found]
            unknown |= _surprises(name, number, found=found, role=role) | _links(name, row, found=found)
    return drafts, unknown | _links("task_result", _scalars(document.get("task_result")), found=())


def result_arrays(document: Mapping[str, object]) -> Iterator[ResultArray]:
    """Everything below `task_result`, then `outputs`. Known arrays come first, others by name: file names must not
    depend on the server's order.

    One object in place of an array counts as its only row, as one page of the documentation has it. A known array may
    stand beside `task_result`, where solutions perhaps put it.
    """
    result = document.get("task_result")
    held: dict[str, tuple[object, Place]] = {"task_result": (result, ("task_result",))}
    if isinstance(result, dict):
        held = {name: (value, ("task_result", name)) for name, value in result.items()}
    for name in ROLE_OF_ARRAY:
        if document.get(name) and not held.get(name, (None,))[0]:
            held[name] = document[name], (name,)
    order = {name: place for place, name in enumerate(ROLE_OF_ARRAY)}
    for name in sorted(held, key=lambda name: (order.get(name, len(order)), name)):
        yield _array(name, *held[name])
    yield _array(OUTPUTS, document.get(OUTPUTS), (OUTPUTS,))


def _array(name: str, value: object, place: Place) -> ResultArray:
    if isinstance(value, list):
        return ResultArray(name, value, [(*place, number) for number in range(len(value))])
    return ResultArray(name, _rows(name, value), [place])


def _rows(name: str, value: object) -> list[object]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return [value] if value else []
    # A string is no array, but as a field of `task_result` it may be a URL.
    return [value] if isinstance(value, str) and "url" in name.lower() and _is_web(value) else []


def _role(name: str, row: object) -> Role:
    kind = row.get("type") if name == OUTPUTS and isinstance(row, dict) else None
    known = ROLE_OF_OUTPUT_TYPE.get(kind) if isinstance(kind, str) else ROLE_OF_ARRAY.get(name)
    return known or Role.OTHER


def _prefix(name: str, role: Role) -> str:
    return PLACES[role].stem_prefix if role in PLACES else f"{_safe(name)}-"


def _index(row: object) -> int | None:
    """The API's own index: a natural number, perhaps as a string of digits."""
    value = row.get("index") if isinstance(row, dict) else None
    if isinstance(value, str) and re.fullmatch(r"0|[1-9][0-9]{0,5}", value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= INDEX_MAX:
        return value
    return None


def _indexes_name_rows(rows: Sequence[object]) -> bool:
    indexes = [_index(row) for row in rows]
    return None not in indexes and len(set(indexes)) == len(indexes)


def _urls(row: object) -> list[_Found]:
    """The URLs of one row, known fields first. A bare string counts as its `url`."""
    if isinstance(row, str) and _is_web(row):
        only = _url(("url",), row)
        return [dataclasses.replace(only, steps=())] if only is not None else []
    found = [url for steps, value in strings_in(row) if (url := _url(steps, value)) is not None]
    return sorted(found, key=lambda url: (url.rank, url.path))


def strings_in(value: object) -> Iterator[tuple[Place, str]]:
    """(place, string) for every string inside a JSON value; no recursion, since the API chooses the depth."""
    waiting: list[tuple[Place, object]] = [((), value)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, str):
            yield place, value
        elif isinstance(value, dict):
            waiting += [((*place, str(name)), inner) for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [((*place, number), inner) for number, inner in enumerate(value)]


def _url(steps: Place, value: str) -> _Found | None:
    url = value.replace("\0", "").strip(_URL_ENDS)
    if not url.strip():
        return None
    names = [str(step) for step in steps]
    dotted = ".".join(names)
    for rank, field in enumerate(URL_FIELDS):
        if matched := field.path.fullmatch(dotted):
            if field.watermarked and not _is_web(url):
                return None
            suffix = matched.expand(field.suffix)
            return _Found(rank, dotted, steps, _sound(url), suffix, field.watermarked)
    if _is_web(url) and any("url" in name.lower() for name in names):
        suffix = "." + ".".join(_safe(name) for name in names)
        return _Found(len(URL_FIELDS), dotted, steps, _sound(url), _short(suffix), "watermark" in dotted)
    return None


def _sound(url: str) -> str:
    """A URL that can be stored. Cutting a monstrous one would break its signature, so it is refused."""
    if len(url) > URL_CHARACTERS_MAX:
        raise ApiAnswerUnreadable(f"A result URL of more than {URL_CHARACTERS_MAX} characters.")
    return model.text(url, limit=URL_CHARACTERS_MAX)


def _is_web(value: str) -> bool:
    """Whether it begins as an absolute URL with a host."""
    return _WEB.match(value) is not None


def _draft(base: str, found: _Found, *, role: Role, index: int | None, row: Place) -> _Draft:
    known_role = role if found.known else Role.OTHER
    return _Draft(base + found.suffix, found, known_role, index, (*row, *found.steps))


def _surprises(name: str, number: int, *, found: Sequence[_Found], role: Role) -> set[str]:
    """See `Task.unknown_fields`."""
    label = _safe(name)
    surprises = {f"{label}[].{_short(_safe(url.path))}" for url in found if not url.known}
    if role is Role.OTHER:
        surprises.add(f"{label}[]")
    if not any(url.known for url in found) and role is not Role.OTHER:
        surprises.add(f"{label}[{number}] without a URL")
    return surprises


def _links(name: str, row: object, *, found: Sequence[_Found]) -> set[str]:
    """Links that no field name marks as results: reported, not fetched. A help page among a task's files would keep it
    from its manifest."""
    results = {url.path for url in found}
    paths = [".".join(map(str, steps)) for steps, value in strings_in(row) if steps and _is_web(value)]
    return {f"{_safe(name)}[].{_short(_safe(path))} not fetched" for path in paths if path not in results}


def _scalars(result: object) -> object:
    """The strings of `task_result` that `_rows` does not take for results."""
    if not isinstance(result, dict):
        return {}
    return {
        name: value for name, value in result.items() if isinstance(value, str) and not _rows(name, value)
    }


def _reported(unknown: set[str], *, status: Status) -> tuple[str, ...]:
    """What to log: a missing URL only once the task has succeeded."""
    reported = sorted(
        name for name in unknown if status is Status.SUCCEEDED or not name.endswith("without a URL")
    )
    return tuple(reported[:UNKNOWN_FIELDS_MAX])


# --- names ----------------------------------------------------------------------------------------------


def _named(drafts: Sequence[_Draft]) -> tuple[Asset, ...]:
    """Assets with unique stems; known fields choose first."""
    taken: set[str] = set()
    stems: dict[int, str] = {}
    for place in sorted(range(len(drafts)), key=lambda place: drafts[place].found.rank):
        stems[place] = _free(drafts[place].stem, taken)
        taken.add(stems[place])
        # `audio-0` with MP3 bytes would be called audio-0.mp3, as `audio-0.mp3` is.
        taken.update(f"{stems[place]}.{format_}" for format_ in STEM_FORMATS)
        taken.update(stems[place].removesuffix(f".{format_}") for format_ in STEM_FORMATS)
    return tuple(
        Asset(
            stem=stems[place],
            url=draft.found.url,
            role=draft.role,
            index=draft.index,
            watermarked=draft.found.watermarked,
            place=draft.place,
        )
        for place, draft in enumerate(drafts)
    )


def _free(stem: str, taken: set[str]) -> str:
    number = 1
    candidate = stem
    while candidate in taken:
        number += 1
        candidate = f"{stem}.{number}"
    return candidate


def _safe(name: str) -> str:
    """A name from outside, fit for a key, a log line and a file name."""
    return _short(re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip(".-") or "unnamed")


def _short(name: str) -> str:
    if len(name) <= NAME_CHARACTERS_MAX:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{name[: NAME_CHARACTERS_MAX - 9]}-{digest}"
