"""Recognises Kling's paths, and what a request to one of them wants. Pure functions.

A path is judged by its segments after percent-decoding, and passed on as it came: clients may have external ids in it.
A path that a server behind us could split into other segments than we do is refused.
"""

import dataclasses
import re
from urllib.parse import parse_qsl, unquote_to_bytes

from archiver.create.paths import create_path
from archiver.families import FAMILIES, SOLUTIONS, TASKS
from archiver.metrics import GatewayKind
from archiver.model import FAMILY

OUR_SEGMENTS = frozenset({b"api", b"callbacks", b"console", b"files", b"healthz", b"metrics", b"readyz"})
"""First segments of what the daemon itself serves."""
SEGMENTS_MAX = 5
PATH_BYTES_MAX = 2048
_SEGMENT = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+")
_QUERY = re.compile(rb"[\x21-\x7e]*")
_ID_PARAMETERS = frozenset({"task_ids", "external_task_ids"})
_PAGE_PARAMETERS = frozenset({"pageNum", "pageSize"})


@dataclasses.dataclass(frozen=True, slots=True)
class KlingPath:
    """A request line that may go on; see `GatewayRequest`."""

    path: bytes
    kind: GatewayKind
    family: str | None = None
    identifier: str | None = None


def is_klings(raw_path: bytes) -> bool:
    """Whether a path is the gateway's to answer: its first segment is none of ours."""
    first = raw_path[1:].partition(b"/")[0]
    return bool(first) and _decoded(first) not in OUR_SEGMENTS


def read_path(method: str, raw_path: bytes, raw_query: bytes) -> KlingPath | None:
    """None for one that must not go on."""
    path = _without_our_prefix(raw_path)
    if len(path) > PATH_BYTES_MAX or not _QUERY.fullmatch(raw_query):
        return None
    segments = path[1:].removesuffix(b"/").split(b"/")
    decoded = [_decoded(segment) for segment in segments]
    is_safe = all(map(_SEGMENT.fullmatch, segments)) and all(map(_is_safe, decoded))
    if len(segments) > SEGMENTS_MAX or not is_safe or decoded[0] in OUR_SEGMENTS:
        return None
    if method == "POST" and (create := create_path(path)) is not None:
        return KlingPath(path, GatewayKind.CREATE, create.family)
    try:
        names = [segment.decode() for segment in decoded]
    except UnicodeDecodeError:
        return KlingPath(path, GatewayKind.OTHER)
    if names[0] == "v1" and len(names) > 2:
        return _below_v1(method, path, names[1:], raw_query)
    return KlingPath(path, _kind_of_new_standard(method, names, raw_query))


def _without_our_prefix(path: bytes) -> bytes:
    """Clients' base URLs come with and without `/kling` and `/v1`, and some add their own `/v1`."""
    if path.startswith(b"/kling/"):
        path = path.removeprefix(b"/kling")
    return path.removeprefix(b"/v1") if path.startswith(b"/v1/v1/") else path


def _decoded(segment: bytes) -> bytes:
    return unquote_to_bytes(segment) if b"%" in segment else segment


def _is_safe(segment: bytes) -> bool:
    """No server reads it as a way up, or as several segments. Some take what follows a semicolon for parameters."""
    has_separator = any(byte in segment for byte in (b"/", b"\\", b"\0"))
    return not has_separator and segment.partition(b";")[0] not in {b"", b".", b".."}


def _below_v1(method: str, path: bytes, names: list[str], raw_query: bytes) -> KlingPath:
    """`names` follow `/v1/`. A family has two or three segments. After a known family of two, the third is an id. After
    an unknown one it is an id too, unless the query asks for a page."""
    whole, last = "/".join(names), names[-1]
    above = "/".join(names[:-1])
    if method != "GET":
        return KlingPath(path, GatewayKind.OTHER)
    is_page = FAMILY.fullmatch(whole) and not _PAGE_PARAMETERS.isdisjoint(_parameters(raw_query))
    if above in FAMILIES or (whole not in FAMILIES and FAMILY.fullmatch(above) and not is_page):
        return KlingPath(path, GatewayKind.QUERY, above, last)
    if FAMILY.fullmatch(whole):
        return KlingPath(path, GatewayKind.LIST, whole)
    return KlingPath(path, GatewayKind.OTHER)


def _kind_of_new_standard(method: str, names: list[str], raw_query: bytes) -> GatewayKind:
    """`POST /tasks` and `POST /solutions` are lists."""
    if names in ([TASKS], [SOLUTIONS]):
        is_query = method == "GET" and not _ID_PARAMETERS.isdisjoint(_parameters(raw_query))
        is_list = method in {"GET", "POST"}
        return GatewayKind.QUERY if is_query else GatewayKind.LIST if is_list else GatewayKind.OTHER
    return GatewayKind.OTHER


def _parameters(raw_query: bytes) -> set[str]:
    return {name for name, _ in parse_qsl(raw_query.decode("ascii"), keep_blank_values=True)}
