"""One table: which families the account offers, what their results look like, what their create call takes. No I/O.

A family is data, so that a new one is an entry here and nothing anywhere else. Synchronous paths (tts,
image-recognize) make no tasks and are left out, and so is advanced-custom-elements, whose result rows are undocumented.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Literal

Check = Callable[[object], bool]


@dataclasses.dataclass(frozen=True, slots=True)
class ResultFile:
    """One URL field of a result row. `stem` is the archive's name for it; `{}` is the row's index."""

    field: str
    stem: str
    kind: Literal["image", "mp4", "mp3", "wav"] = "image"
    watermark: bool = False
    """Whether a second file can come in `watermark_url`, called `<stem>.watermark`."""


@dataclasses.dataclass(frozen=True, slots=True)
class ResultArray:
    """One array of `task_result`: the files of each row and what else stands in it."""

    name: str
    files: tuple[ResultFile, ...]
    id_field: Literal["index", "id", "voice_id"]
    extra: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Family:
    """A resource family. `path` follows `/v1/` in the legacy standard; for the others it is the archive's name."""

    path: str
    arrays: tuple[ResultArray, ...]
    standard: Literal["legacy", "new", "solution"] = "legacy"
    """Where it can be read: below `/v1/` (and at `/tasks`), at `/tasks` only, at `/solutions`."""
    series: tuple[ResultArray, ...] = ()
    """The arrays of a series instead, where the family has them; `result_type` then says which."""
    watermark_in_single: bool = True
    """Off: only list rows carry `watermark_url`."""
    parent_video: bool = False
    required: Mapping[str, Check] = dataclasses.field(default_factory=dict)
    optional: Mapping[str, Check] | None = None
    """None: whatever else the create call sends goes unchecked and without complaint."""


def _text(most: int) -> Check:
    return lambda value: isinstance(value, str) and len(value) <= most


def _number(least: float, most: float) -> Check:
    return lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
    )


def _one_of(*words: str) -> Check:
    return lambda value: value in words


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 9


def _list(value: object) -> bool:
    return isinstance(value, list)


def _switch(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(enabled, bool) for enabled in value.values())


def _callback_url(value: object) -> bool:
    return isinstance(value, str) and (value == "" or re.match(r"https?://[^/]", value) is not None)


COMMON: Mapping[str, Check] = {
    "callback_url": _callback_url,
    "external_task_id": _text(512),
    "model_name": _text(64),
    "n": _count,
    "watermark_info": _switch,
}
"""Checked for every family."""

_IMAGE = (ResultArray("images", (ResultFile("url", "{}", watermark=True),), "index"),)
_SERIES = (ResultArray("series_images", (ResultFile("url", "series-{}", watermark=True),), "index"),)
_OUTPUT_IMAGE = ResultArray("images", (ResultFile("url", "{}", watermark=True),), "id")
"""The new standard has no index."""
_VIDEO = ResultArray(
    "videos", (ResultFile("url", "video-{}", "mp4", watermark=True),), "id", {"duration": "5"}
)
_AUDIO = ResultArray(
    "audios",
    (ResultFile("url_mp3", "audio-{}", "mp3"), ResultFile("url_wav", "audio-{}", "wav")),
    "id",
    {"duration_mp3": "3.0", "duration_wav": "3.0"},
)
_VOICE = ResultArray(
    "voices",
    (ResultFile("trial_url", "voice-{}", "mp3"),),
    "voice_id",
    {"voice_name": "calm", "owned_by": "kling"},
)
_MULTI_SHOT = ResultArray(
    "images", tuple(ResultFile(f"url_{number}", f"{{}}-{number}") for number in (1, 2, 3)), "index"
)
_RATIOS = ("1:1", "16:9", "4:3", "3:2", "2:3", "3:4", "9:16", "21:9")

FAMILIES: Mapping[str, Family] = {
    family.path: family
    for family in (
        Family(
            "images/generations",
            _IMAGE,
            required={"prompt": _text(2500)},
            optional={
                "model": _text(64),
                "negative_prompt": _text(2500),
                "image": _text(20_000_000),
                "image_reference": _one_of("subject", "face", ""),
                "image_fidelity": _number(0, 1),
                "human_fidelity": _number(0, 1),
                "element_list": _list,
                "resolution": _one_of("1k", "2k"),
                "aspect_ratio": _one_of(*_RATIOS),
            },
        ),
        Family(
            "images/editing/expand",
            _IMAGE,
            watermark_in_single=False,
            required={
                "image": _text(20_000_000),
                "up_expansion_ratio": _number(0, 2),
                "left_expansion_ratio": _number(0, 2),
                "right_expansion_ratio": _number(0, 2),
            },
            # The downward ratio is spelled two ways across pages, so that neither can be required.
            optional={
                "prompt": _text(2500),
                "bottom_expansion_ratio": _number(0, 2),
                "down_expansion_ratio": _number(0, 2),
            },
        ),
        Family("images/omni-image", _IMAGE, series=_SERIES, required={"prompt": _text(2500)}),
        Family("images/multi-image2image", _IMAGE),
        Family("images/kolors-virtual-try-on", _IMAGE),
        Family("general/ai-multi-shot", (_MULTI_SHOT,)),
        Family("videos/text2video", (_VIDEO,)),
        Family("videos/image2video", (_VIDEO,)),
        Family("videos/multi-image2video", (_VIDEO,)),
        Family("videos/omni-video", (_VIDEO,)),
        Family("videos/motion-control", (_VIDEO,)),
        Family("videos/effects", (_VIDEO,)),
        Family("videos/avatar/image2video", (_VIDEO,)),
        Family("videos/video-extend", (_VIDEO,), parent_video=True),
        Family("videos/lip-sync", (_VIDEO,), parent_video=True),
        Family("videos/advanced-lip-sync", (_VIDEO,), parent_video=True),
        Family("videos/multi-elements", (_VIDEO,)),
        Family("audio/text-to-audio", (_AUDIO,)),
        Family("audio/video-to-audio", (_VIDEO, _AUDIO), parent_video=True),
        Family("general/custom-voices", (_VOICE,)),
        Family("tasks/image", (_OUTPUT_IMAGE,), "new"),
        Family("tasks/video", (_VIDEO,), "new"),
        Family("tasks/try_on", (_OUTPUT_IMAGE,), "new"),
        Family("solutions/virtual_try_on", (_OUTPUT_IMAGE,), "solution"),
    )
}
LEGACY: Mapping[str, Family] = {
    path: family for path, family in FAMILIES.items() if family.standard == "legacy"
}


def parameter_faults(family: Family, body: Mapping[str, object]) -> tuple[list[str], list[str]]:
    """What is wrong with a create body: parameters to refuse it for, and unknown parameters."""
    known = {**COMMON, **(family.optional or {}), **family.required}
    refused = [name for name in family.required if name not in body]
    refused += [
        name
        for name, value in body.items()
        if name in known and not (value is None and name not in family.required) and not known[name](value)
    ]
    unknown = [name for name in body if name not in known] if family.optional is not None else []
    return refused, unknown
