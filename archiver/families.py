"""Which families there are, what their tasks produce, and which endpoint reads them. No I/O.

A new family is a row in `FAMILIES`; archiver/kling/API.md 1.3, 1.4 and 6 are the sources. The first segment decides the
endpoint: `tasks/…` is read at `/tasks` only, `solutions/…` at `/solutions`, all others at a path of their own below
`/v1/`.
"""

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence, Set

from archiver.model import Role, State

TASKS = "tasks"
SOLUTIONS = "solutions"
COLLECTION_SWEEPS = {SOLUTIONS: "solutions/all", TASKS: "tasks/all"}
"""Collection → its sweep's name in the ledger, `status` and metrics. In the order of sweeping: `/tasks` may show
solutions too, without their name."""


_SIMILAR, _NEARLY_THE_SAME = 0.7, 0.85
"""Similarities by difflib: the share of letters that two names have in common."""


@dataclasses.dataclass(frozen=True, slots=True)
class RolePlace:
    """Where an answer has the results of one role, and the names of their files."""

    array: str
    """The array of such results in `task_result`."""
    output_type: str
    """The `type` of such rows in `outputs`."""
    stem_prefix: str


PLACES: Mapping[Role, RolePlace] = {
    Role.IMAGE: RolePlace("images", "image", ""),
    Role.SERIES_IMAGE: RolePlace("series_images", "image", "series-"),
    Role.VIDEO: RolePlace("videos", "video", "video-"),
    Role.AUDIO: RolePlace("audios", "audio", "audio-"),
    Role.VOICE: RolePlace("voices", "voice", "voice-"),
    Role.ELEMENT: RolePlace("elements", "element", "element-"),
}
ROLE_OF_ARRAY = {place.array: role for role, place in PLACES.items()}
ROLE_OF_OUTPUT_TYPE = {place.output_type: role for role, place in reversed(list(PLACES.items()))}
"""The first row wins: an output of type `image` is an image, also where it is one of a series."""

OUTPUTS = "outputs"
"""The one result array of the new standard."""

FAMILIES: Mapping[str, tuple[Role, ...]] = {
    "images/generations": (Role.IMAGE,),
    "images/omni-image": (Role.IMAGE, Role.SERIES_IMAGE),
    "images/multi-image2image": (Role.IMAGE,),
    "images/editing/expand": (Role.IMAGE,),
    "images/kolors-virtual-try-on": (Role.IMAGE,),
    "general/ai-multi-shot": (Role.IMAGE,),
    "videos/text2video": (Role.VIDEO,),
    "videos/image2video": (Role.VIDEO,),
    "videos/multi-image2video": (Role.VIDEO,),
    "videos/omni-video": (Role.VIDEO,),
    "videos/motion-control": (Role.VIDEO,),
    "videos/effects": (Role.VIDEO,),
    "videos/avatar/image2video": (Role.VIDEO,),
    "videos/video-extend": (Role.VIDEO,),
    "videos/lip-sync": (Role.VIDEO,),
    "videos/advanced-lip-sync": (Role.VIDEO,),
    "videos/multi-elements": (Role.VIDEO,),
    "audio/text-to-audio": (Role.AUDIO,),
    "audio/video-to-audio": (Role.VIDEO, Role.AUDIO),
    "general/custom-voices": (Role.VOICE,),
    "general/advanced-custom-elements": (Role.ELEMENT,),
    "tasks/image": (Role.IMAGE,),
    "tasks/video": (Role.VIDEO,),
    "tasks/try_on": (Role.IMAGE,),
    "solutions/virtual_try_on": (Role.IMAGE,),
}
"""API path (without `/v1/`) → what its tasks make."""

_ROLES_OF_AREA = {
    "images": frozenset({Role.IMAGE}),
    "videos": frozenset({Role.VIDEO}),
    "audio": frozenset({Role.AUDIO}),
}
"""First segment of an unknown family → what its tasks probably make."""


@dataclasses.dataclass(frozen=True, slots=True)
class UrlField:
    """A field of a result row that holds a URL."""

    path: re.Pattern[str]
    """Its path inside the row."""
    suffix: str
    """What it adds to the stem."""
    watermarked: bool = False


URL_FIELDS: Sequence[UrlField] = (
    UrlField(re.compile(r"url"), ""),
    UrlField(re.compile(r"trial_url"), ""),
    UrlField(re.compile(r"(?:element_image_list\.)?frontal_image"), ""),
    UrlField(re.compile(r"watermark_url"), ".watermark", watermarked=True),
    UrlField(re.compile(r"url_([0-9]{1,3})"), r"-\1"),
    UrlField(re.compile(r"watermark_url_([0-9]{1,3})"), r"-\1.watermark", watermarked=True),
    UrlField(re.compile(r"url_mp3|mp3_url"), ".mp3"),
    UrlField(re.compile(r"url_wav|wav_url"), ".wav"),
)
"""One table for all families, because the API names URL fields alike everywhere."""

CONTENT_TYPES: Mapping[str, str] = {
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
"""Extension of a stored file → its type; a test holds it against the formats of `media`."""
EXTENSIONS = frozenset({*CONTENT_TYPES, "jpeg"})
"""Extensions that a result's URL may have."""
STEM_FORMATS = ("mp3", "wav")
"""Formats that a field's name, and so a stem, may contain."""


def file_name(stem: str, *, extension: str) -> str:
    """The file name of an asset whose bytes have shown the extension (`png`, `mp3`); unique within a task, as stems
    are.

    A stem that has the extension keeps it (`audio-0.mp3`), one with another format gets it (`audio-0.mp3.wav`).
    """
    has_extension = extension in STEM_FORMATS and stem.endswith(f".{extension}")
    return stem if has_extension else f"{stem}.{extension}"


def collection_of(family: str | None) -> str | None:
    """`tasks` or `solutions`; None for a family with a path below `/v1/`."""
    first = (family or "").partition("/")[0]
    return first if first in COLLECTION_SWEEPS else None


def similar(family: str) -> str | None:
    """The known family whose name is most like this one; None if there is none."""
    near = difflib.get_close_matches(family, sorted(FAMILIES), n=1, cutoff=_SIMILAR)
    return near[0] if near else None


def misspelled(family: str) -> str | None:
    """The known family that an unknown one nearly is; None for one that Kling may have added.

    Kling's names of new versions differ in their digits.
    """
    near = difflib.get_close_matches(family, sorted(FAMILIES), n=1, cutoff=_NEARLY_THE_SAME)
    digits = [re.sub(r"[^0-9]", "", name) for name in (family, *near)]
    return near[0] if near and digits[0] == digits[1] and family not in FAMILIES else None


def swept(families: Sequence[str], *, has_api_key: bool) -> tuple[str, ...]:
    """The lists to sweep for these families: every list below `/v1/`, and with an API Key also `/solutions` (if a
    solution is configured) and `/tasks`."""
    lists = tuple(family for family in families if collection_of(family) is None)
    if not has_api_key:
        return lists
    solutions = any(collection_of(family) == SOLUTIONS for family in families)
    return (*lists, *([COLLECTION_SWEEPS[SOLUTIONS]] if solutions else []), COLLECTION_SWEEPS[TASKS])


def families_fitting(result_arrays: Sequence[str], configured: Sequence[str]) -> list[str]:
    """`configured` without repetitions, in this order: families whose tasks fill all these arrays, those that fill
    some, unknown ones, the rest."""
    wanted = set(result_arrays)

    def distance(family: str) -> int:
        filled = _arrays_of(family)
        if not wanted or filled is None:
            return 2
        if wanted <= filled:
            return 0
        return 1 if wanted & filled else 3

    return sorted(dict.fromkeys(configured), key=distance)


def _arrays_of(family: str) -> set[str] | None:
    """The result arrays that its tasks fill. A solution may answer in either dialect (API.md 1.4)."""
    if family not in FAMILIES:
        return None
    collection = collection_of(family)
    arrays = set() if collection == TASKS else {PLACES[role].array for role in FAMILIES[family]}
    return arrays if collection is None else arrays | {OUTPUTS}


def shown_as(role: Role) -> Role:
    """The role that `/tasks` shows instead: it does not distinguish a series from single images."""
    return ROLE_OF_OUTPUT_TYPE[PLACES[role].output_type]


def arrays_shown_as(roles: Set[Role]) -> list[str]:
    """The legacy arrays whose results `/tasks` shows as one of `roles`."""
    return [place.array for role, place in PLACES.items() if shown_as(role) in roles]


def roles_shown(family: str) -> frozenset[Role] | None:
    """The roles that `/tasks` shows of a family: none of a solution, None where this version cannot tell."""
    if family in FAMILIES and collection_of(family) != SOLUTIONS:
        return frozenset(shown_as(role) for role in FAMILIES[family])
    return frozenset() if collection_of(family) is not None else _ROLES_OF_AREA.get(family.partition("/")[0])


def is_provisional(family: str, state: State) -> bool:
    """Whether the family is a guess that the task's end may correct. `/tasks` shows the kind of a task only by its
    outputs, and a running task has none."""
    return state is State.RUNNING and collection_of(family) == TASKS
