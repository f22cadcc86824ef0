"""A log event for a person at a terminal, in lines of at most 100 columns. No I/O.

    03:08:05Z info task.archived assets=4 seconds=1.2 task_id=831768251064815642
    03:08:09Z warning hold.set the bucket kling-results does not exist
        Create the bucket, or correct KLING_S3_BUCKET.
        stage=archive reason=bucket_missing

Time (UTC), level and event come first, then the sentence and what to do, then other fields, ids last. An event that
fits is one line. Else sentences are wrapped; values too, but beside an id they are shortened, because `kling-archiver
show` and the id tell the rest. Ids stay whole.
"""

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

COLUMNS_MAX = 100
_INDENT = "    "
_FIRST = ("timestamp", "level", "event")
_SENTENCES = ("message", "what_to_do")
_SENTENCE_LINES_MAX, _DETAIL_LINES_MAX = 4, 8
_MORE = "…"
_IDS = ("task_id", "external_task_id", "request_id")
_TRACEBACKS = ("exception", "stack")
_VALUE_COLUMNS_MIN = 24
"""A shortened value keeps at least this many columns."""
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}


def lines_of(event: Mapping[str, object], *, colours: bool) -> str:
    """`event` has `timestamp`, `level`, `event`, and safe values (`redaction`)."""
    time, level, name = (str(event[field]) for field in _FIRST)
    head = f"{time[11:19]}Z {level} {name}"
    sentences = [" ".join(str(event[field]).split()) for field in _SENTENCES if event.get(field)]
    lines = _one_line(head, sentences, event) or list(_several_lines(head, sentences, event))
    if colours:
        coloured = f"{time[11:19]}Z \x1b[{_COLOURS.get(level, '0')}m{level}\x1b[0m \x1b[1m{name}\x1b[0m"
        lines[0] = coloured + lines[0].removeprefix(head)
    return "\n".join([*lines, *(str(event[field]) for field in _TRACEBACKS if event.get(field))])


def _one_line(head: str, sentences: Sequence[str], event: Mapping[str, object]) -> list[str]:
    """The event as one line; empty if it does not fit."""
    line = " ".join([head, *sentences, *_details(event), *_ids(event)])
    return [line] if _columns(line) <= COLUMNS_MAX else []


def _several_lines(head: str, sentences: Sequence[str], event: Mapping[str, object]) -> Iterator[str]:
    begin = f"{head} "
    for sentence in sentences:
        yield from _wrapped(sentence.split(" "), begin=begin, lines_max=_SENTENCE_LINES_MAX)
        begin = _INDENT
    details, ids = _details(event), _ids(event)
    if ids:
        yield _fitted(details, ids, begin=begin)
    elif details:
        yield from _wrapped(details, begin=begin, lines_max=_DETAIL_LINES_MAX)


def _details(event: Mapping[str, object]) -> list[str]:
    apart = {*_FIRST, *_SENTENCES, *_IDS, *_TRACEBACKS}
    return [
        f"{name}={_text(value)}" for name, value in event.items() if name not in apart and value is not None
    ]


def _ids(event: Mapping[str, object]) -> list[str]:
    return [f"{name}={_text(event[name])}" for name in reversed(_IDS) if event.get(name) is not None]


def _text(value: object) -> str:
    if isinstance(value, list | tuple) and all(
        isinstance(entry, str) and _is_plain(entry) for entry in value
    ):
        return ",".join(value)
    if isinstance(value, str):
        return value if _is_plain(value) else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _is_plain(text: str) -> bool:
    return text.isprintable() and bool(text) and not any(character in text for character in ' "=')


def _wrapped(words: Sequence[str], *, begin: str, lines_max: int) -> list[str]:
    """Not by `textwrap`, which counts characters: Kling's own messages may be Chinese."""
    lines, line = [], begin
    for word in words:
        gap = "" if line in (begin, _INDENT) else " "
        if gap and _columns(line + gap + word) > COLUMNS_MAX:
            lines.append(line)
            line, gap = _INDENT, ""
        *full, line = _cut(line + gap + word)
        lines.extend(full)
    if len(lines) >= lines_max:
        lines, line = lines[: lines_max - 1], f"{_cut(lines[lines_max - 1], less=2)[0]} {_MORE}"
    return [*lines, line]


def _cut(text: str, *, less: int = 0) -> list[str]:
    """Cut words that are longer than a line."""
    lines = []
    while _columns(text) > COLUMNS_MAX - less:
        end = COLUMNS_MAX - less
        while _columns(text[:end]) > COLUMNS_MAX - less:
            end -= 1
        lines.append(text[:end])
        text = _INDENT + text[end:]
    return [*lines, text]


def _fitted(details: Sequence[str], ids: Sequence[str], *, begin: str) -> str:
    """Leave out the id of the request, shorten the longest details, then leave them out, until the rest fits."""
    shown = list(details)
    if len(ids) > 1 and _columns(begin + " ".join([*shown, *ids])) > COLUMNS_MAX:
        ids = [found for found in ids if not found.startswith("request_id=")]
    while shown and (over := _columns(begin + " ".join([*shown, *ids])) - COLUMNS_MAX) > 0:
        longest = max(shown, key=_columns)
        shortened = _shortened(longest, over)
        if shortened != longest:
            shown[shown.index(longest)] = shortened
        elif shown == [_MORE]:
            break
        else:
            shown = [*(detail for detail in shown if detail not in (longest, _MORE)), _MORE]
    return begin + " ".join([*shown, *ids])


def _shortened(detail: str, columns: int) -> str:
    """Cut this many columns from the value: keep the end of a path or key, and the beginning of other values."""
    name, _, value = detail.partition("=")
    kept = max(_VALUE_COLUMNS_MIN, _columns(value) - columns - 1)
    if _columns(value) <= kept + 1:
        return detail
    is_path = "/" in value and "," not in value
    while _columns(value) > kept:
        value = value[1:] if is_path else value[:-1]
    if is_path and "/" in value:
        value = value[value.index("/") :]
    return f"{name}={_MORE}{value}" if is_path else f"{name}={value}{_MORE}"


def _columns(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(_columns_of(character) for character in text)


def _columns_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
