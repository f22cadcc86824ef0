"""What must hold for all bytes: one function for each place that reads some, which raises if it does not."""

import dataclasses
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from archiver.create.paths import CALLBACK_FIELD, LEGACY_PLACE, OPTIONS
from archiver.failures import ApiAnswerUnreadable, NotMedia, TooLarge
from archiver.families import file_name
from archiver.fetch.urls import EgressPolicy, PolicyRefusal, redirected
from archiver.kling.places import NotJson, append_items, replace_strings
from archiver.kling.responses import mended, placed_rows, read_answer, sound
from archiver.kling.results import read_task
from archiver.media.identify import identify
from archiver.media.reader import PIXELS_MAX, SIDE_MAX
from archiver.model import TASK_ID, Callback, Place
from receiver.callbacks.payload import RESULT_ARRAYS_MAX, Malformed, parse
from receiver.callbacks.signatures import Signatures, SignatureVerdict
from receiver.gateway.creates.body import CreateBody, Editor, bytes_added
from receiver.gateway.creates.body import read as read_create
from receiver.gateway.creates.skimming import LONG_STRING_BYTES, Skimmer, Unreadable
from tests.harness import media_samples
from tests.media_corpus.table import files as corpus_files

CONTENT_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "avif": "image/avif",
    "heic": "image/heic",
    "bmp": "image/bmp",
    "tiff": "image/tiff",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "mov": "video/quicktime",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
}
"""Every content type that we store."""

_CORPUS_BYTES_MAX = 8192
_SIGNATURES = Signatures(["whsec_dGVzdHNlY3JldHRlc3RzZWNyZXQ="], required=False, clock=lambda: 1781080794.0)
_POLICY = EgressPolicy.parse(["klingai.com", "http://127.0.0.1:9000"])
_DEPTH_CERTAIN = 500
"""Python reads JSON that is nested so deeply, wherever the call comes from."""
_SAFE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_SAFE_TARGET = re.compile(rb"/[!-~]*")


def payload(data: bytes) -> None:
    """The door: the first line becomes the signature headers, all of the data the body."""
    found = parse(data, account="default", family_hint=None)
    if isinstance(found, Callback):
        assert TASK_ID.fullmatch(found.task_id)
        assert found.updated_at is None or 0 < found.updated_at < 2**53
        assert len(found.result_arrays) <= RESULT_ARRAYS_MAX
        assert all(re.fullmatch(r"\w{1,64}", name, re.ASCII) for name in found.result_arrays)
    else:
        assert isinstance(found, Malformed)
        assert found.reason.isascii()
    parts = data.split(b"\n")[0].split(b"|")
    names = (b"webhook-id", b"webhook-timestamp", b"webhook-signature")
    verdict = _SIGNATURES.check(list(zip(names, parts, strict=False)), data)
    assert verdict is not SignatureVerdict.VALID


def answers(data: bytes) -> None:
    """The API's answer and each task in it."""
    try:
        rows = placed_rows(read_answer(data))
    except ApiAnswerUnreadable:
        return
    for place, row in rows:
        try:
            task = read_task(sound(row), family="images/generations")
        except ApiAnswerUnreadable:
            continue
        assert TASK_ID.fullmatch(task.task_id)
        assert all(asset.url for asset in task.assets)
        names = [file_name(asset.stem, extension="png") for asset in task.assets]
        assert len(set(names)) == len(names)
        assert all(_SAFE_NAME.fullmatch(name) and not name.startswith(".") for name in names), names
        json.dumps(task.document, allow_nan=False).encode("utf-8")
        links = {(*place, *asset.place): f"L{number}" for number, asset in enumerate(task.assets)}
        relayed = replace_strings(data, links)
        for found, link in links.items():
            assert (
                _at(json.loads(relayed.decode("utf-8-sig", "replace"), parse_int=str, strict=False), found)
                == link
            )


def _at(value: Any, place: Place) -> object:
    for step in place:
        if isinstance(value, dict):
            value = {mended(name): item for name, item in value.items()}
        value = value[step]
    return value


def places(data: bytes) -> None:
    """A JSON text whose strings are all replaced, and one whose strings all stay."""
    try:
        before = _pairs(data.decode("utf-8-sig", "replace"))
    except RecursionError:
        return
    except ValueError:
        before = NotJson
    try:
        assert replace_strings(data, {}) == data
    except NotJson:
        assert before is NotJson
        return
    links = dict.fromkeys(_places_of_strings(before), "L")
    after = replace_strings(data, links)
    assert _pairs(after.decode("utf-8-sig", "replace")) == _linked(before)
    assert replace_strings(after, links) == after
    appended = append_items(data, ("data",), [b"null", b"[]"])
    assert _pairs(appended.decode("utf-8-sig", "replace")) == _appended_to(before)


def creates(data: bytes) -> None:
    """The body of a create, in one piece and byte by byte: read as JSON reads it, and changed at its callback URLs
    only."""
    try:
        body = _create_body(data, step=len(data) + 1)
    except Unreadable:
        is_deep = data.count(b"[") + data.count(b"{") > _DEPTH_CERTAIN
        assert is_deep or len(data) > LONG_STRING_BYTES or not _is_json_object(data)
        return
    in_bytes = _create_body(data, step=1)
    for edits, again, expected in (
        (
            body.with_url("U", place=LEGACY_PLACE),
            in_bytes.with_url("U", place=LEGACY_PLACE),
            _called_back(_pairs(data.decode()), "U"),
        ),
        (body.without_url(), in_bytes.without_url(), _called_back(_pairs(data.decode()), None)),
    ):
        assert edits == again
        editor = Editor(edits)
        changed = b"".join(editor.feed(data[at : at + 7]) for at in range(0, len(data), 7))
        assert _pairs(changed.decode()) == expected
        assert len(changed) == len(data) + bytes_added(edits)


def _create_body(data: bytes, *, step: int) -> CreateBody:
    skimmer = Skimmer()
    for at in range(0, len(data), step):
        skimmer.feed(data[at : at + step])
    return read_create(skimmer.finish())


def _is_json_object(data: bytes) -> bool:
    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        return isinstance(json.loads(data.decode(), parse_constant=refuse), dict)
    except (ValueError, RecursionError):
        return False


def _called_back(top: Any, url: str | None, *, is_top: bool = True) -> object:
    """The pairs of an object, as they are with `url` for callback URL, or without any."""
    changed: list[tuple[Any, object]] = []
    for name, value in top:
        if name == CALLBACK_FIELD:
            changed += [] if url is None else [(name, url)]
        elif is_top and name == OPTIONS and isinstance(value, tuple):
            changed.append((name, _called_back(value, url, is_top=False)))
        else:
            changed.append((name, value))
    if is_top and url is not None and not any(name == CALLBACK_FIELD for name, _ in top):
        changed.insert(0, (CALLBACK_FIELD, url))
    return tuple(changed)


def _pairs(text: str) -> object:
    """JSON with objects as tuples of pairs: a doubled name is there twice."""
    return json.loads(
        text,
        object_pairs_hook=tuple,
        parse_int=_Literal,
        parse_float=_Literal,
        parse_constant=_Literal,
        strict=False,
    )


class _Literal(str):
    """A number as the text writes it."""

    __slots__ = ()


def _appended_to(value: object) -> object:
    """`value` with two more items in each array called `data` at its top."""
    if not isinstance(value, tuple):
        return value
    return tuple(
        (name, [*item, None, []] if mended(name) == "data" and isinstance(item, list) else item)
        for name, item in value
    )


def _is_string(value: object) -> bool:
    return isinstance(value, str) and not isinstance(value, _Literal)


def _places_of_strings(value: object, place: Place = ()) -> list[Place]:
    if _is_string(value):
        return [place]
    items: Any = value if isinstance(value, tuple) else enumerate(value) if isinstance(value, list) else ()
    return [
        found
        for step, item in items
        for found in _places_of_strings(item, (*place, mended(step) if isinstance(step, str) else step))
    ]


def _linked(value: object) -> object:
    if isinstance(value, tuple):
        return tuple((name, _linked(item)) for name, item in value)
    if isinstance(value, list):
        return [_linked(item) for item in value]
    return "L" if _is_string(value) else value


def media(data: bytes) -> None:
    """A file from the CDN."""
    try:
        found = identify(io.BytesIO(data), reads_max=2000)
    except (NotMedia, TooLarge):
        return
    assert CONTENT_TYPES[found.extension] == found.content_type
    assert (found.width or 0) * (found.height or 0) <= PIXELS_MAX
    assert max(found.width or 0, found.height or 0) <= SIDE_MAX


def urls(data: bytes) -> None:
    """A URL from the API, or the location of a redirect."""
    text = data.decode("utf-8", "surrogateescape")
    _vet(text)
    base = _POLICY.vet("https://cdn.klingai.com/a/b?c=d")
    try:
        location = redirected(base, text)
    except PolicyRefusal:
        return
    _vet(location)


def _vet(url: str) -> None:
    try:
        vetted = _POLICY.vet(url)
    except PolicyRefusal:
        return
    origin = vetted.origin
    if vetted.listed:
        assert (origin.scheme, origin.host, origin.port) == ("http", "127.0.0.1", 9000)
    else:
        assert (origin.scheme, origin.port) == ("https", 443)
        assert re.fullmatch(r"([a-z0-9_-]{1,63}\.)*klingai\.com", origin.host)
    assert _SAFE_TARGET.fullmatch(vetted.target)


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """A function, samples to start from, and words of the format to mix in."""

    check: Callable[[bytes], None]
    samples: Sequence[bytes]
    words: Sequence[bytes]


_JSON_WORDS = [
    *(f'"{name}"'.encode() for name in ("task_id", "id", "task_status", "status", "data", "result", "outputs")),
    *(f'"{name}"'.encode() for name in ("task_result", "images", "videos", "url", "watermark_url", "url_1")),
    *(f'"{name}"'.encode() for name in ("updated_at", "index", "code", "message", "https://a.klingai.com/b")),
    b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-0", b'""', b'"\\ud800"', b'"\\u0000"',
    b"\xff", b"\xef\xbb\xbf", b"9" * 500, b"[" * 200, b'{"a":' * 200, b"[]", b"{}", b",", b":",
]  # fmt: skip

_TASK = (
    b'{"task_id":"843250903213","task_status":"succeed","created_at":1766000000000,"updated_at":1766000001000,'
    b'"task_result":{"images":[{"index":0,"url":"https://a.klingai.com/0.png?x=y","watermark_url":""},'
    b'{"index":1,"url":"https://a.klingai.com/1.png"}],"series_images":[{"url_1":"https://a.klingai.com/s"}]}}'
)
_NEW_TASK = b'{"id":"77","status":"succeeded","update_time":1,"outputs":[{"type":"video","url":"https://a.klingai.com/v"}]}'
_DEEP = b'{"task_id":"1","task_status":"x","x":' + b"[" * 3000
_LONG = b'{"task_id":"1","task_status":"x","updated_at":' + b"9" * 5000 + b"}"
_SIGNED = b"9876543210|1781080794|v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4=\n"

TARGETS: Mapping[str, Target] = {
    "payload": Target(
        payload,
        [_TASK, _NEW_TASK, b'{"code":0,"data":' + _TASK + b"}", _DEEP, _LONG, _SIGNED],
        _JSON_WORDS,
    ),
    "answers": Target(
        answers,
        [
            b'{"code":0,"message":"ok","request_id":"r","data":[' + _TASK + b"," + _NEW_TASK + b"]}",
            b'{"code":0,"data":{"result":[' + _NEW_TASK + b'],"next_cursor":"c"}}',
            b'{"code":0,"data":[' + _LONG + b"," + _TASK + b"]}",
            b'{"code":0,"data":[' + _DEEP,
            b'{"code":"1302","message":"too fast","data":null}',
        ],
        _JSON_WORDS,
    ),
    "places": Target(
        places,
        [
            b'{"code":0,"data":[' + _TASK + b"," + _NEW_TASK + b"]}",
            b' {"a" : [ "x" , 1.50, {"\\u0061\\n":"\\/", "a":"x"}, [] ], "a":{} }\n',
            b'\xef\xbb\xbf[NaN,-Infinity,1e999,"\xff\\ud800",null,true]',
            b"[" * 400 + b'"x"' + b"]" * 400,
        ],
        [*_JSON_WORDS, b"\\u0061", b'\\"', b"\\", b'"', b" ", b"\n"],
    ),
    "creates": Target(
        creates,
        [
            b'{"prompt":"a fox", "callback_url" : "https://a.example/b" ,"n":1.0}',
            b' {"options":{"callback_url":"x","k":[{"callback_url":1}]},"callb\\u0061ck_url":"\\/","options":{}} ',
            b'{"callback_url":1,"callback_url":null,"a":"\xc3\xa9"}',
            b'{"image":"' + b"A" * (LONG_STRING_BYTES + 9) + b'\\/","callback_url":""}',
            _DEEP,
            _LONG,
        ],
        [*_JSON_WORDS, b'"callback_url"', b'"options"', b'"callback_url":"x",', b"\\u0061", b'\\"', b"\\", b'"', b" "],
    ),
    "media": Target(
        media,
        [
            *media_samples.SAMPLES,
            *(path.read_bytes() for path in corpus_files() if path.stat().st_size <= _CORPUS_BYTES_MAX),
        ],
        [b"IHDR", b"IEND", b"IDAT", b"ftyp", b"moov", b"stsz", b"stsc", b"stco", b"trun", b"iloc", b"ipma",
         b"ispe", b"ipco", b"iprp", b"tkhd", b"VP8L", b"\xff\xd9",
         b"\xff\xda", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\1", b"\x7f\xff\xff\xff", b"<html>"],
    ),
    "urls": Target(
        urls,
        [
            b"https://cdn.klingai.com/a%2Fb/../c//d;e?ksSecret=%7e%7E&x=[]|y#z",
            b"http://127.0.0.1:9000/a",
            b"https://[::ffff:127.0.0.1]:443/a",
            b"//cdn.klingai.com:443/../a?b",
            b"../c.png",
        ],
        [b"@", b":", b"//", b"\\", b"[", b"]", b".", b"%00", b"%2e", b"#", b"?", b"klingai.com", b"127.0.0.1",
         b"0x7f.1", b"\t", "\uff0f".encode(), "\u3002".encode(), "\u212a".encode(), b"\xff", b"\r\nHost: a", b":443", b"https://"],
    ),
}  # fmt: skip
