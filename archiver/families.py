"""Which families there are, what their tasks make, and how they are read. No I/O.

Three tables hold all that is known (archiver/kling/API.md 1.4 and 6): `FAMILIES`, `ARRAYS`, `URL_FIELDS`. A new
family is a row. The URL fields are one table for all families, because the API names them alike everywhere,
and a field that turns up in another family than documented is then simply right.

Three kinds of family, told apart by their first segment: `tasks/…` (only `/tasks` knows the task), `solutions/…` (read
at `/solutions`), and all others, which have a path of their own below `/v1/` and are always read there.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from archiver.model import Role, State

TASKS = "tasks"
SOLUTIONS = "solutions"
COLLECTION_SWEEPS = {SOLUTIONS: "solutions/all", TASKS: "tasks/all"}
"""Collection → the name that its sweep goes by in the ledger, `status` and metrics. In the order they are read: what
`/solutions` shows, `/tasks` may show as well, without its name."""


@dataclasses.dataclass(frozen=True, slots=True)
class ArrayShape:
    """How the files of one result array are called and what they are."""

    prefix: str
    role: Role


ARRAYS: Mapping[str, ArrayShape] = {
    "images": ArrayShape("", Role.IMAGE),
    "series_images": ArrayShape("series-", Role.SERIES_IMAGE),
    "videos": ArrayShape("video-", Role.VIDEO),
    "audios": ArrayShape("audio-", Role.AUDIO),
    "voices": ArrayShape("voice-", Role.VOICE),
    "elements": ArrayShape("element-", Role.ELEMENT),
}

OUTPUTS = "outputs"
OUTPUT_TYPES: Mapping[str, ArrayShape] = {
    "image": ARRAYS["images"],
    "video": ARRAYS["videos"],
    "audio": ARRAYS["audios"],
    "voice": ARRAYS["voices"],
    "element": ARRAYS["elements"],
}
"""Rows of the new standard's one array say their type themselves."""

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "images/generations": ("images",),
    "images/omni-image": ("images", "series_images"),
    "images/multi-image2image": ("images",),
    "images/editing/expand": ("images",),
    "images/kolors-virtual-try-on": ("images",),
    "general/ai-multi-shot": ("images",),
    "videos/text2video": ("videos",),
    "videos/image2video": ("videos",),
    "videos/multi-image2video": ("videos",),
    "videos/omni-video": ("videos",),
    "videos/motion-control": ("videos",),
    "videos/effects": ("videos",),
    "videos/avatar/image2video": ("videos",),
    "videos/video-extend": ("videos",),
    "videos/lip-sync": ("videos",),
    "videos/advanced-lip-sync": ("videos",),
    "videos/multi-elements": ("videos",),
    "audio/text-to-audio": ("audios",),
    "audio/video-to-audio": ("videos", "audios"),
    "general/custom-voices": ("voices",),
    "general/advanced-custom-elements": ("elements",),
    "tasks/image": (OUTPUTS,),
    "tasks/video": (OUTPUTS,),
    "tasks/try_on": (OUTPUTS,),
    "solutions/virtual_try_on": (OUTPUTS, "images"),
}
"""API path (without `/v1/`) → the result arrays its tasks fill."""

URL_FIELDS: Sequence[tuple[re.Pattern[str], str, bool]] = (
    (re.compile(r"url"), "", False),
    (re.compile(r"trial_url"), "", False),
    (re.compile(r"(?:element_image_list\.)?frontal_image"), "", False),
    (re.compile(r"watermark_url"), ".watermark", True),
    (re.compile(r"url_([0-9]{1,3})"), r"-\1", False),
    (re.compile(r"watermark_url_([0-9]{1,3})"), r"-\1.watermark", True),
    (re.compile(r"url_mp3|mp3_url"), ".mp3", False),
    (re.compile(r"url_wav|wav_url"), ".wav", False),
)
"""The field's path inside its row → what it adds to the stem, and whether the file carries a watermark."""


def collection_of(family: str | None) -> str | None:
    """`tasks` or `solutions`; None for a family that has a path below `/v1/`, and for None."""
    first = (family or "").partition("/")[0]
    return first if first in COLLECTION_SWEEPS else None


def swept(families: Sequence[str], *, has_api_key: bool) -> tuple[str, ...]:
    """What is swept where these families are configured: every list below `/v1/`, then, with an API Key only,
    `/solutions` where one of them is configured, and `/tasks`."""
    lists = tuple(family for family in families if collection_of(family) is None)
    if not has_api_key:
        return lists
    solutions = any(collection_of(family) == SOLUTIONS for family in families)
    return (*lists, *([COLLECTION_SWEEPS[SOLUTIONS]] if solutions else []), COLLECTION_SWEEPS[TASKS])


def families_fitting(result_arrays: Sequence[str], configured: Sequence[str]) -> list[str]:
    """`configured` without repetitions, those first whose tasks fill all these arrays, then those that fill
    some, then those this version does not know, then the rest; else in the order given."""
    arrays = set(result_arrays)

    def distance(family: str) -> int:
        filled = FAMILIES.get(family)
        if not arrays or filled is None:
            return 2
        if arrays <= set(filled):
            return 0
        return 1 if arrays & set(filled) else 3

    return sorted(dict.fromkeys(configured), key=distance)


def is_provisional(family: str, state: State) -> bool:
    """Whether a task's family was a guess that its end may still correct: `/tasks` tells what a task is by what it has
    made, so not while it runs, and nothing is archived of a running task."""
    return state is State.RUNNING and collection_of(family) == TASKS
