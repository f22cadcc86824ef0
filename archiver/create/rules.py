"""What a create call may say: the rules of the create pages as a table. No I/O.

Three rules:

1. All problems are reported at once, except that rules about several parameters apply only once each is right by
   itself. A refusal here costs nothing; a create that the API misunderstands is paid for.
2. Refuse only what the pages agree on. They contradict each other (which models take a reference image, which model
   is the default); anything that one of them allows passes.
3. Families without rules pass, except for callback URL and external id, on which we depend.

Sources: archiver/kling/API.md 14, S0 to S4, and among O6 the image capability map of 2026-05-19. Empty texts and nulls
count as absent, as in the pages' own examples.
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
"""Returns the broken rule as the rest of a sentence whose subject is the parameter, or None."""

PROMPT_CHARACTERS_MAX = 2500
N_MAX = 9
REFERENCES_MAX = 10
EXTERNAL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""The API documents no rule; these are safe everywhere."""
_TASK_ID_LOOKALIKE = re.compile(r"[0-9]{10,}")

RATIOS = ("16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3", "21:9")
_RATIOS_V1 = frozenset(RATIOS) - {"21:9"}
_ALL = frozenset(RATIOS)


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """One row of the capability map of `images/generations`."""

    text_ratios: frozenset[str] = _ALL
    """Empty: the model needs an image."""
    image_ratios: frozenset[str] = _ALL
    text_resolutions: frozenset[str] = frozenset({"1k"})
    image_resolutions: frozenset[str] = frozenset({"1k"})
    references: frozenset[str] = frozenset()
    needs_reference: bool = False
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
"""The pages differ."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    parameters: Mapping[str, Check]
    required: tuple[str, ...]
    together: Callable[[Body], Iterator[str]]
    """Rules about several parameters, each of which is right by itself."""


# --- single parameters ----------------------------------------------------------------------------------


def _text(characters_max: int) -> Check:
    def check(value: object) -> str | None:
        if not isinstance(value, str):
            return "must be text"
        return (
            None
            if len(value) <= characters_max
            else f"must be at most {characters_max} characters, not {len(value)}"
        )

    return check


def _number(minimum: float, maximum: float) -> Check:
    def check(value: object) -> str | None:
        is_right = (
            isinstance(value, int | float) and not isinstance(value, bool) and minimum <= value <= maximum
        )
        return None if is_right else f"must be a number from {minimum:g} to {maximum:g}, not {_shown(value)}"

    return check


def _integer(minimum: int, maximum: int) -> Check:
    def check(value: object) -> str | None:
        is_right = isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum
        return (
            None if is_right else f"must be a whole number from {minimum} to {maximum}, not {_shown(value)}"
        )

    return check


def _one_of(*words: str) -> Check:
    def check(value: object) -> str | None:
        return None if value in words else f"must be one of {', '.join(words)}, not {_shown(value)}"

    return check


def _callback_url(value: object) -> str | None:
    is_right = isinstance(value, str) and re.match(r"https?://[^/\s]+", value)
    return None if is_right else "must be an http or https URL"


def _external_task_id(value: object) -> str | None:
    if not isinstance(value, str) or not EXTERNAL_ID.fullmatch(value):
        return "must be 1 to 64 of A-Z a-z 0-9 _ and -"
    if _TASK_ID_LOOKALIKE.fullmatch(value):
        return "must not look like a task id: the API takes both in the same place"
    return None


def _watermark_info(value: object) -> str | None:
    is_right = isinstance(value, dict) and set(value) == {"enabled"} and isinstance(value["enabled"], bool)
    return None if is_right else 'must be {"enabled": true} or {"enabled": false}'


def _element_list(value: object) -> str | None:
    rows = value if isinstance(value, list) else [None]
    is_right = all(isinstance(row, dict) and _is_id(row.get("element_id")) for row in rows)
    return None if is_right else 'must be a list of {"element_id": …}'


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _old_model(_value: object) -> str | None:
    return "is an old name that the API ignores, using its default model instead: write model_name"


def _shown(value: object) -> str:
    return repr(value)[:40]


# --- several parameters ------------------------------------------------------------------------------------


def _generation(body: Body) -> Iterator[str]:
    """The capability map. If no model is named, the body must suit both possible defaults."""
    named = body.get("model_name")
    yield from _of_default(body) if named is None else _of_model(body, named, MODELS[named])
    if "image" in body and "negative_prompt" in body:
        yield "negative_prompt cannot be combined with image: the API takes it for text to image only"
    if "image" not in body:
        for name in ("image_reference", "image_fidelity", "human_fidelity"):
            if name in body:
                yield f"{name} needs a reference image: give image as well"
    elif "human_fidelity" in body and body.get("image_reference") != "subject":
        yield "human_fidelity works only with image_reference subject"
    count = len(body.get("element_list", ())) + ("image" in body)
    if count > REFERENCES_MAX:
        yield f"element_list and image together may be at most {REFERENCES_MAX}, not {count}"


def _of_default(body: Body) -> Iterator[str]:
    reported: set[str] = set()
    for default in DEFAULT_MODELS:
        for problem in _of_model(body, default, MODELS[default]):
            parameter = problem.partition(" ")[0]
            if parameter not in reported:
                reported.add(parameter)
                yield f"{problem} (set model_name: the default is {' or '.join(DEFAULT_MODELS)})"


def _of_model(body: Body, name: str, model: Model) -> Iterator[str]:
    has_image = "image" in body
    source = "from an image" if has_image else "from text alone"
    ratios = model.image_ratios if has_image else model.text_ratios
    if not ratios:
        yield f"image is required by {name}, which makes nothing {source}"
        return
    ratio = body.get("aspect_ratio")
    if ratio is not None and ratio not in ratios:
        yield f"aspect_ratio {ratio} is not offered by {name}, only {_listed(ratios)}"
    resolution = body.get("resolution")
    resolutions = model.image_resolutions if has_image else model.text_resolutions
    if resolution is not None and resolution not in resolutions:
        yield f"resolution {resolution} is not offered by {name} {source}, only {_listed(resolutions)}"
    reference = body.get("image_reference")
    if reference is not None and reference not in model.references:
        yield f"image_reference is not taken by {name}, only by {_models(lambda model: bool(model.references))}"
    if has_image and reference is None and model.needs_reference:
        yield f"image_reference (subject or face) is required by {name} with an image"
    if "image_fidelity" in body and not model.image_fidelity:
        yield f"image_fidelity is not taken by {name}, only by {_models(lambda model: model.image_fidelity)}"
    if "human_fidelity" in body and not model.human_fidelity:
        yield f"human_fidelity is not taken by {name}, only by {_models(lambda model: model.human_fidelity)}"


def _models(takes: Callable[[Model], bool]) -> str:
    return ", ".join(name for name, model in MODELS.items() if takes(model))


def _listed(words: frozenset[str]) -> str:
    order = (*RATIOS, "1k", "2k")
    return ", ".join(word for word in order if word in words)


def _expand(body: Body) -> Iterator[str]:
    down, bottom = body.get(DOWN), body.get(BOTTOM)
    if down is None and bottom is None:
        yield f"{DOWN} is required (or its older name, {BOTTOM}; both may be given)"
    if down is not None and bottom is not None and down != bottom:
        yield f"{DOWN} and {BOTTOM} name the same side and cannot differ"
    sides = Expansion(
        up=body.get("up_expansion_ratio", 0.0),
        down=down if down is not None else bottom or 0.0,
        left=body.get("left_expansion_ratio", 0.0),
        right=body.get("right_expansion_ratio", 0.0),
    )
    if sides.is_too_large:
        yield (
            f"up, down, left and right_expansion_ratio together make {sides.area:.2f} times the image's area, "
            f"(1 + up + down) × (1 + left + right); the API allows at most {AREA_MAX:g}"
        )


# --- the table ------------------------------------------------------------------------------------------

_COMMON: dict[str, Check] = {
    "prompt": _text(PROMPT_CHARACTERS_MAX),
    "image": images.broken_rule,
    "n": _integer(1, N_MAX),
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
"""Paths that return the result at once and make no task (archiver/kling/API.md 6)."""


def problems(family: str, body: Body) -> list[str]:
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
    return f"{shown} is not a parameter of {family}{hint}"
