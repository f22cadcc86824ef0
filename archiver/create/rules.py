"""What a create call may say: the rules of the create pages as a table. No I/O.

Three rules:

1. Every problem is one sentence that names the parameter and the rule: a create that is refused here has cost
   nothing, one that is misunderstood upstream has. All come at once, but for what several parameters make together,
   which is looked at once each of them is right by itself.
2. Only what a page states is refused. Where pages contradict each other (they do: which models take a reference
   image, which model answers when none is named), whatever one of them allows passes.
3. Families without rules here pass unchecked, but for what we ourselves live by (callback URL, external id);
   everything passes under `--no-check`.

Sources: the create pages and their capability maps (kling-api.md section 14, S0 to S4, and the image capability map of
2026-05-19 among O6). Empty texts and nulls count as left out, as in the pages' own examples.
"""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from archiver.create import images
from archiver.create.expansion import AREA_MAX, BOTTOM, DOWN, RATIO_MAX, Expansion

Body = Mapping[str, Any]
Check = Callable[[object], str | None]
"""What the value must be, where it is not that: the rest of a sentence whose subject is the parameter."""

PROMPT_CHARACTERS_MAX = 2500
N_MAX = 9
REFERENCES_MAX = 10
EXTERNAL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Which characters and what length an external id may have is undocumented; these travel anywhere."""
_TASK_ID_LOOKALIKE = re.compile(r"[0-9]{10,}")

RATIOS = ("16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3", "21:9")
_RATIOS_V1 = frozenset(RATIOS) - {"21:9"}
_ALL = frozenset(RATIOS)


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """One row of the capability map of `images/generations`: ratios and resolutions from text, and from an image."""

    text_ratios: frozenset[str] = _ALL
    """Empty: it makes nothing from text alone."""
    image_ratios: frozenset[str] = _ALL
    text_resolutions: frozenset[str] = frozenset({"1k"})
    image_resolutions: frozenset[str] = frozenset({"1k"})
    references: frozenset[str] = frozenset()
    """What an image may be a reference for (`image_reference`); empty: it takes none."""
    needs_reference: bool = False
    """Whether an image without `image_reference` is refused."""
    image_fidelity: bool = False
    human_fidelity: bool = False


_BOTH = frozenset({"1k", "2k"})
_REFERENCES = frozenset({"subject", "face"})

MODELS: Mapping[str, Model] = {
    "kling-v1": Model(text_ratios=_RATIOS_V1, image_ratios=_RATIOS_V1, image_fidelity=True),
    "kling-v1-5": Model(
        references=_REFERENCES, needs_reference=True, image_fidelity=True, human_fidelity=True
    ),
    "kling-v2": Model(text_resolutions=_BOTH),
    "kling-v2-new": Model(text_ratios=frozenset(), text_resolutions=frozenset()),
    "kling-v2-1": Model(
        text_resolutions=_BOTH,
        image_resolutions=_BOTH,
        references=_REFERENCES,
        image_fidelity=True,
        human_fidelity=True,
    ),
    "kling-v3": Model(text_resolutions=_BOTH, image_resolutions=_BOTH),
}
DEFAULT_MODELS = ("kling-v1", "kling-v3")
"""Which one answers when none is named depends on the page."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """What one family's create page says."""

    parameters: Mapping[str, Check]
    required: tuple[str, ...]
    together: Callable[[Body], Iterator[str]]
    """Sentences about several parameters at once, each of which is right by itself."""


# --- single parameters ----------------------------------------------------------------------------------


def _text(most: int) -> Check:
    def check(value: object) -> str | None:
        if not isinstance(value, str):
            return "must be text"
        return (
            None
            if len(value) <= most
            else f"must be at most {most} characters, and this one has {len(value)}"
        )

    return check


def _number(least: float, most: float) -> Check:
    def check(value: object) -> str | None:
        sound = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
        return None if sound else f"must be a number from {least:g} to {most:g}, not {_shown(value)}"

    return check


def _whole(least: int, most: int) -> Check:
    def check(value: object) -> str | None:
        sound = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return None if sound else f"must be a whole number from {least} to {most}, not {_shown(value)}"

    return check


def _one_of(*words: str) -> Check:
    def check(value: object) -> str | None:
        return None if value in words else f"must be one of {', '.join(words)}, not {_shown(value)}"

    return check


def _callback_url(value: object) -> str | None:
    sound = isinstance(value, str) and re.match(r"https?://[^/\s]+", value)
    return None if sound else "must be an http or https URL"


def _external_task_id(value: object) -> str | None:
    if not isinstance(value, str) or not EXTERNAL_ID.fullmatch(value):
        return "must be 1 to 64 of A-Z a-z 0-9 _ and -"
    if _TASK_ID_LOOKALIKE.fullmatch(value):
        return "must not look like a task id: the API takes either in the same place"
    return None


def _watermark_info(value: object) -> str | None:
    sound = isinstance(value, dict) and set(value) == {"enabled"} and isinstance(value["enabled"], bool)
    return None if sound else 'must be {"enabled": true} or {"enabled": false}'


def _element_list(value: object) -> str | None:
    rows = value if isinstance(value, list) else [None]
    sound = all(isinstance(row, dict) and _is_id(row.get("element_id")) for row in rows)
    return None if sound else 'must be a list of {"element_id": …}'


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _old_model(_value: object) -> str | None:
    return "is the old name, which the API ignores: it would take its first model; write model_name"


def _shown(value: object) -> str:
    return repr(value)[:40]


# --- several at once ------------------------------------------------------------------------------------


def _generation(body: Body) -> Iterator[str]:
    """The capability map. Where no model is named, what each possible default refuses is a problem."""
    named = body.get("model_name")
    yield from _of_default(body) if named is None else _of_model(body, named, MODELS[named])
    if "image" in body and "negative_prompt" in body:
        yield "negative_prompt cannot be given together with image: the API takes it for text to image only"
    if "image" not in body:
        for name in ("image_reference", "image_fidelity", "human_fidelity"):
            if name in body:
                yield f"{name} is about a reference image: give image, too"
    elif "human_fidelity" in body and body.get("image_reference") != "subject":
        yield "human_fidelity takes effect only with image_reference subject"
    count = len(body.get("element_list", ())) + ("image" in body)
    if count > REFERENCES_MAX:
        yield f"element_list and image together may be at most {REFERENCES_MAX}, not {count}"


def _of_default(body: Body) -> Iterator[str]:
    told: set[str] = set()
    for default in DEFAULT_MODELS:
        for problem in _of_model(body, default, MODELS[default]):
            parameter = problem.partition(" ")[0]
            if parameter not in told:
                told.add(parameter)
                yield f"{problem} (name the model: without model_name it may be {' or '.join(DEFAULT_MODELS)})"


def _of_model(body: Body, name: str, model: Model) -> Iterator[str]:
    has_image = "image" in body
    source = "from an image" if has_image else "from text alone"
    ratios = model.image_ratios if has_image else model.text_ratios
    if not ratios:
        yield f"image is required by {name}: it makes nothing {source}"
        return
    ratio = body.get("aspect_ratio")
    if ratio is not None and ratio not in ratios:
        yield f"aspect_ratio {ratio} is not offered by {name}: it makes {_listed(ratios)}"
    resolution = body.get("resolution")
    resolutions = model.image_resolutions if has_image else model.text_resolutions
    if resolution is not None and resolution not in resolutions:
        yield f"resolution {resolution} is not offered by {name} {source}: it makes {_listed(resolutions)}"
    reference = body.get("image_reference")
    if reference is not None and reference not in model.references:
        yield f"image_reference is not taken by {name}, only by {_models(lambda one: bool(one.references))}"
    if has_image and reference is None and model.needs_reference:
        yield f"image_reference (subject or face) is required by {name} when there is an image"
    if "image_fidelity" in body and not model.image_fidelity:
        yield f"image_fidelity is not taken by {name}, only by {_models(lambda one: one.image_fidelity)}"
    if "human_fidelity" in body and not model.human_fidelity:
        yield f"human_fidelity is not taken by {name}, only by {_models(lambda one: one.human_fidelity)}"


def _models(able: Callable[[Model], bool]) -> str:
    return ", ".join(name for name, model in MODELS.items() if able(model))


def _listed(words: frozenset[str]) -> str:
    order = (*RATIOS, "1k", "2k")
    return ", ".join(word for word in order if word in words)


def _expand(body: Body) -> Iterator[str]:
    down, bottom = body.get(DOWN), body.get(BOTTOM)
    if down is None and bottom is None:
        yield f"{DOWN} is required (older pages of the API call it {BOTTOM}; both may be given)"
    if down is not None and bottom is not None and down != bottom:
        yield f"{DOWN} and {BOTTOM} are two names of the same side, and cannot differ"
    sides = Expansion(
        up=body.get("up_expansion_ratio", 0.0),
        down=down if down is not None else bottom or 0.0,
        left=body.get("left_expansion_ratio", 0.0),
        right=body.get("right_expansion_ratio", 0.0),
    )
    if sides.is_too_large:
        yield (
            f"up, down, left and right_expansion_ratio together make {sides.area:.2f} times the image's area, and the "
            f"API allows at most {AREA_MAX:g}: (1 + up + down) × (1 + left + right)"
        )


# --- the table ------------------------------------------------------------------------------------------

_COMMON: dict[str, Check] = {
    "prompt": _text(PROMPT_CHARACTERS_MAX),
    "image": images.broken_rule,
    "n": _whole(1, N_MAX),
    "watermark_info": _watermark_info,
    "callback_url": _callback_url,
    "external_task_id": _external_task_id,
}

_SIDES = ("up_expansion_ratio", DOWN, BOTTOM, "left_expansion_ratio", "right_expansion_ratio")

RULES: Mapping[str, Rules] = {
    "images/generations": Rules(
        parameters=_COMMON
        | {
            "model_name": _one_of(*MODELS),
            "model": _old_model,
            "negative_prompt": _text(PROMPT_CHARACTERS_MAX),
            "image_reference": _one_of("subject", "face"),
            "image_fidelity": _number(0, 1),
            "human_fidelity": _number(0, 1),
            "element_list": _element_list,
            "resolution": _one_of("1k", "2k"),
            "aspect_ratio": _one_of(*RATIOS),
        },
        required=("prompt",),
        together=_generation,
    ),
    "images/editing/expand": Rules(
        parameters=_COMMON | dict.fromkeys(_SIDES, _number(0, RATIO_MAX)),
        required=("image", "up_expansion_ratio", "left_expansion_ratio", "right_expansion_ratio"),
        together=_expand,
    ),
}

_NO_RULES = Rules(
    parameters={name: _COMMON[name] for name in ("callback_url", "external_task_id")},
    required=(),
    together=lambda _body: iter(()),
)

SYNCHRONOUS = frozenset({"audio/tts", "videos/image-recognize", "videos/identify-face"})
"""Paths that answer at once and make no task (kling-api.md section 6): there is nothing to follow."""


def problems(family: str, body: Body) -> list[str]:
    """One sentence for each rule of the family's create page that `body` breaks."""
    rules = RULES.get(family, _NO_RULES)
    given = {name: value for name, value in body.items() if value is not None and value != ""}
    found = [_missing(name) for name in rules.required if name not in given]
    if rules is not _NO_RULES:
        found += [_unknown(family, name, rules) for name in given if name not in rules.parameters]
    broken = {name: check(given[name]) for name, check in rules.parameters.items() if name in given}
    wrong = [f"{name} {rule}" for name, rule in broken.items() if rule is not None]
    return [f"{problem}." for problem in [*found, *(wrong or rules.together(given))]]


def _missing(name: str) -> str:
    return f"{name} is required"


def _unknown(family: str, name: str, rules: Rules) -> str:
    shown = name if name.isidentifier() and len(name) <= 64 else "a parameter with an odd name"
    near = difflib.get_close_matches(name, sorted(rules.parameters), n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{shown} is no parameter of {family}{hint}"
