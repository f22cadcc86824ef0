"""The rules of the create pages: what is refused before anything is paid, in which words."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.create import images, request, rules
from archiver.create.rules import MODELS, RATIOS, problems
from tests.harness.server import chunk
from tests.simulator.account import Account
from tests.simulator.creating import CreateRefused, create
from tests.simulator.families import FAMILIES
from tests.simulator.media import media
from tests.simulator.switches import Switches

GENERATIONS = "images/generations"
EXPAND = "images/editing/expand"
URL = "https://example.com/dog.png"
FOX = {"prompt": "a red fox"}
WITH_IMAGE = FOX | {"model_name": "kling-v3", "image": URL}
GROWN = {
    "image": URL,
    "up_expansion_ratio": 0.1,
    "down_expansion_ratio": 0.1,
    "left_expansion_ratio": 0.5,
    "right_expansion_ratio": 0.5,
}


def of_generation(**parameters: object) -> list[str]:
    return problems(GENERATIONS, FOX | parameters)


def of_expansion(**parameters: object) -> list[str]:
    return problems(EXPAND, GROWN | parameters)


# --- one parameter ---


@pytest.mark.parametrize(
    "body",
    [
        FOX,
        FOX | {"n": 4, "aspect_ratio": "16:9"},
        FOX | {"prompt": "x" * 2500, "negative_prompt": "y" * 2500, "n": 9},
        FOX | {"model_name": "kling-v3", "resolution": "2k", "aspect_ratio": "21:9"},
        FOX | {"model_name": "kling-v1", "image": URL, "image_fidelity": 0},
        FOX | {"model_name": "kling-v1-5", "image": URL, "image_reference": "subject", "human_fidelity": 1},
        FOX | {"model_name": "kling-v2-1", "image": URL, "negative_prompt": "", "n": 2},
        FOX | {"model_name": "kling-v2-new", "image": URL},
        FOX | {"model_name": "kling-v3", "image": URL, "element_list": [{"element_id": 1}] * 9},
        FOX | {"watermark_info": {"enabled": True}, "callback_url": "https://a.example/x"},
        FOX
        | {"image": "", "negative_prompt": "blur", "image_reference": None, "external_task_id": "order-1"},
    ],
)
def test_a_body_that_the_pages_allow_passes(body: Mapping[str, object]) -> None:
    assert problems(GENERATIONS, body) == []


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"prompt": ""}, "prompt is required."),
        ({"prompt": "x" * 2501}, "prompt must be at most 2500 characters, not 2501."),
        ({"prompt": 5}, "prompt must be text."),
        (
            {"negative_prompt": "x" * 2501},
            "negative_prompt must be at most 2500 characters, not 2501.",
        ),
        ({"n": 0}, "n must be a whole number from 1 to 9, not 0."),
        ({"n": 10}, "n must be a whole number from 1 to 9, not 10."),
        ({"n": True}, "n must be a whole number from 1 to 9, not True."),
        ({"n": "4"}, "n must be a whole number from 1 to 9, not '4'."),
        (
            {"model_name": "kling-v4"},
            (
                "model_name must be one of kling-v1, kling-v1-5, kling-v2, kling-v2-new, kling-v2-1, kling-v3, "
                "not 'kling-v4'."
            ),
        ),
        (
            {"model": "kling-v3"},
            "model is an old name that the API ignores, using its default model instead: write model_name.",
        ),
        ({"resolution": "4k"}, "resolution must be one of 1k, 2k, not '4k'."),
        (
            {"aspect_ratio": "5:4"},
            "aspect_ratio must be one of 16:9, 9:16, 1:1, 4:3, 3:4, 3:2, 2:3, 21:9, not '5:4'.",
        ),
        ({"image_reference": "style"}, "image_reference must be one of subject, face, not 'style'."),
        ({"image_fidelity": 1.1}, "image_fidelity must be a number from 0 to 1, not 1.1."),
        ({"human_fidelity": float("nan")}, "human_fidelity must be a number from 0 to 1, not nan."),
        ({"promt": "a fox"}, "promt is not a parameter of images/generations (did you mean prompt?)."),
        ({"watermark_info": True}, 'watermark_info must be {"enabled": true} or {"enabled": false}.'),
        ({"element_list": [{"id": 1}]}, 'element_list must be a list of {"element_id": …}.'),
        ({"callback_url": "example.com"}, "callback_url must be an http or https URL."),
        ({"external_task_id": "a/b"}, "external_task_id must be 1 to 64 of A-Z a-z 0-9 _ and -."),
        (
            {"external_task_id": "831768251064815642"},
            "external_task_id must not look like a task id: the API takes both in the same place.",
        ),
    ],
)
def test_a_parameter_that_breaks_its_rule_is_named_with_the_rule(
    parameters: dict[str, object], problem: str
) -> None:
    assert of_generation(**parameters) == [problem]


# --- several parameters ---


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        (
            {"model_name": "kling-v1", "aspect_ratio": "21:9"},
            "aspect_ratio 21:9 is not offered by kling-v1, only 16:9, 9:16, 1:1, 4:3, 3:4, 3:2, 2:3.",
        ),
        (
            {"model_name": "kling-v1-5", "resolution": "2k"},
            "resolution 2k is not offered by kling-v1-5 from text alone, only 1k.",
        ),
        (
            {"model_name": "kling-v2", "resolution": "2k", "image": URL},
            "resolution 2k is not offered by kling-v2 from an image, only 1k.",
        ),
        (
            {"model_name": "kling-v2-new"},
            "image is required by kling-v2-new, which makes nothing from text alone.",
        ),
        (
            {"model_name": "kling-v1-5", "image": URL},
            "image_reference (subject or face) is required by kling-v1-5 with an image.",
        ),
        (
            {"model_name": "kling-v3", "image": URL, "image_reference": "face"},
            "image_reference is not taken by kling-v3, only by kling-v1-5, kling-v2-1.",
        ),
        (
            {"model_name": "kling-v2", "image": URL, "image_fidelity": 0.5},
            "image_fidelity is not taken by kling-v2, only by kling-v1, kling-v1-5, kling-v2-1.",
        ),
        (
            {
                "model_name": "kling-v1-5",
                "image": URL,
                "image_reference": "face",
                "human_fidelity": 0.5,
            },
            "human_fidelity works only with image_reference subject.",
        ),
        (
            {"model_name": "kling-v1-5", "image_reference": "face"},
            "image_reference needs a reference image: give image as well.",
        ),
        (
            {"model_name": "kling-v3", "image": URL, "negative_prompt": "blur"},
            "negative_prompt cannot be combined with image: the API takes it for text to image only.",
        ),
        (
            {"model_name": "kling-v3", "image": URL, "element_list": [{"element_id": 1}] * 10},
            "element_list and image together may be at most 10, not 11.",
        ),
    ],
)
def test_parameters_that_do_not_go_together_are_named(parameters: dict[str, object], problem: str) -> None:
    assert of_generation(**parameters) == [problem]


@pytest.mark.parametrize("parameters", [{"aspect_ratio": "21:9"}, {"resolution": "2k"}])
def test_a_parameter_that_only_some_models_take_requires_model_name(parameters: dict[str, object]) -> None:
    (problem,) = of_generation(**parameters)

    assert problem.endswith("(set model_name: the default is kling-v1 or kling-v3).")


def test_all_problems_come_at_once() -> None:
    found = problems(GENERATIONS, {"n": 12, "aspect_ratio": "1:3", "image_fidelity": 2, "colour": "red"})

    assert [sentence.split()[0] for sentence in found] == [
        "prompt",
        "colour",
        "n",
        "image_fidelity",
        "aspect_ratio",
    ]


def test_an_odd_name_is_not_repeated() -> None:
    assert problems(GENERATIONS, FOX | {"\x1b[2J": 1}) == [
        "a parameter with an odd name is not a parameter of images/generations."
    ]


# --- expansion ---


def test_an_expansion_within_three_times_the_area_passes() -> None:
    assert of_expansion() == []
    assert (
        of_expansion(
            up_expansion_ratio=2, down_expansion_ratio=0, left_expansion_ratio=0.0, right_expansion_ratio=0
        )
        == []
    )
    assert of_expansion(bottom_expansion_ratio=0.1, prompt="a lake", n=9, external_task_id="order-1") == []


def test_the_lower_side_may_be_given_under_either_name() -> None:
    older = {name.replace("down", "bottom"): value for name, value in GROWN.items()}

    assert problems(EXPAND, older) == []
    assert of_expansion(bottom_expansion_ratio=0.2) == [
        "down_expansion_ratio and bottom_expansion_ratio name the same side and cannot differ."
    ]
    assert [sentence.split()[0] for sentence in of_expansion(down_expansion_ratio=None)] == [
        "down_expansion_ratio"
    ]


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"image": None}, "image is required."),
        ({"up_expansion_ratio": None}, "up_expansion_ratio is required."),
        ({"left_expansion_ratio": 2.1}, "left_expansion_ratio must be a number from 0 to 2, not 2.1."),
        ({"right_expansion_ratio": -0.1}, "right_expansion_ratio must be a number from 0 to 2, not -0.1."),
        (
            {"up_expansion_ratio": 1, "left_expansion_ratio": 1},
            (
                "up, down, left and right_expansion_ratio together make 5.25 times the image's area, "
                "(1 + up + down) × (1 + left + right); the API allows at most 3."
            ),
        ),
        ({"aspect_ratio": "1:1"}, "aspect_ratio is not a parameter of images/editing/expand."),
    ],
)
def test_an_expansion_that_breaks_a_rule_is_named_with_the_rule(
    parameters: dict[str, object], problem: str
) -> None:
    assert of_expansion(**parameters) == [problem]


# --- images ---


def encoded(size: tuple[int, int], media_format: Any = "png") -> str:
    return images.encode(media("input", media_format, size))


@pytest.mark.parametrize(
    "image",
    [
        URL,
        "HTTP://example.com/dog.png?sign=x",
        encoded((300, 750)),
        encoded((750, 300)),
        encoded((300, 300), "jpeg"),
    ],
)
def test_an_image_by_url_or_in_base64_within_the_limits_passes(image: str) -> None:
    assert of_generation(model_name="kling-v3", image=image) == []


def test_an_image_of_thirty_megabytes_may_be_sent() -> None:
    small = media("input", "png", (300, 300))
    image = small[:-12] + chunk(b"laRg", bytes(29_000_000)) + small[-12:]

    assert of_generation(model_name="kling-v3", image=images.encode(image)) == []


@pytest.mark.parametrize(
    ("image", "rule"),
    [
        (f"data:image/png;base64,{encoded((300, 300))}", "must be bare Base64"),
        (encoded((299, 400)), "must be at least 300 pixels wide and high, not 299×400"),
        (encoded((300, 751)), "must be between 1:2.5 and 2.5:1, not 300×751"),
        (encoded((300, 300), "webp"), "must be a PNG or JPEG image, not image/webp"),
        (images.encode(b"<html>" * 100), "must be a PNG or JPEG image: the bytes are no image"),
        (images.encode(media("input", "png", (300, 300))[:-30]), "must be a whole image"),
        (images.encode(bytes(30 * 1024 * 1024 + 3)), "must be at most 30 MB, not 30.0 MB"),
        ("dog.png", "must be a URL (http:// or https://), or Base64"),
        (encoded((300, 300)) + "\n", "must be a URL (http:// or https://), or Base64 without line breaks"),
        ("https://", "must be a URL with a host"),
        ("https://[", "must be a URL with a host"),
        ("https://a b", "must be a URL with a host"),
        (7, "must be text"),
    ],
)
def test_an_image_that_breaks_a_rule_is_refused_with_the_rule(image: object, rule: str) -> None:
    (problem,) = of_generation(model_name="kling-v3", image=image)

    assert problem.startswith(f"image {rule}")


# --- other families ---


def test_a_family_without_rules_is_checked_only_for_external_id_and_callback_url() -> None:
    assert problems("videos/text2video", {"anything": [1], "n": 99}) == []
    assert problems("videos/text2video", {"external_task_id": "a b"}) == [
        "external_task_id must be 1 to 64 of A-Z a-z 0-9 _ and -."
    ]


# --- properties ---

_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_NAMES = sorted({name for rules in rules.RULES.values() for name in rules.parameters})


@given(
    st.sampled_from([*rules.RULES, "videos/effects"]),
    st.dictionaries(st.sampled_from(_NAMES) | st.text(max_size=8), _ANYTHING, max_size=8),
)
def test_any_body_yields_sentences_and_a_request_that_is_json(family: str, body: dict[str, Any]) -> None:
    for sentence in problems(family, body):
        assert sentence.endswith(".")
        assert len(sentence) < 400
    json.dumps(request.request_of(body))
    assert request.slots_of(family, body) >= 1


def _generations() -> st.SearchStrategy[dict[str, Any]]:
    """Bodies that are right or nearly right: every choice is one that some page allows."""
    optional: dict[str, st.SearchStrategy[Any]] = {
        "negative_prompt": st.just("blur"),
        "image": st.just(URL),
        "image_reference": st.sampled_from(["subject", "face"]),
        "image_fidelity": st.floats(0, 1),
        "human_fidelity": st.floats(0, 1),
        "resolution": st.sampled_from(["1k", "2k"]),
        "n": st.integers(1, 9),
        "aspect_ratio": st.sampled_from(RATIOS),
    }
    return st.fixed_dictionaries(
        {"prompt": st.text(min_size=1, max_size=20), "model_name": st.sampled_from(sorted(MODELS))},
        optional=optional,
    )


def _refused(family: str, body: Mapping[str, Any]) -> str | None:
    account = Account(now=lambda: 1_800_000_000.0, switches=Switches())
    try:
        create(account, FAMILIES[family], body, complain=pytest.fail)
    except CreateRefused as error:
        return error.message
    return None


@settings(max_examples=500)
@given(_generations())
def test_our_table_and_the_simulated_account_agree_on_every_generation(
    body: dict[str, Any],
) -> None:
    """Neither refuses what the other takes: a wrong refusal costs a user a task, a missing one costs money."""
    assert (problems(GENERATIONS, body) == []) == (_refused(GENERATIONS, body) is None)


_SIDE = st.floats(0, 2).map(lambda value: round(value, 4))


@settings(max_examples=300)
@given(_SIDE, _SIDE, _SIDE, _SIDE)
def test_our_table_and_the_simulated_account_agree_on_every_expansion(
    up: float, down: float, left: float, right: float
) -> None:
    body = {
        "image": URL,
        "up_expansion_ratio": up,
        "down_expansion_ratio": down,
        "left_expansion_ratio": left,
        "right_expansion_ratio": right,
    }

    assert (problems(EXPAND, body) == []) == (_refused(EXPAND, body) is None)
