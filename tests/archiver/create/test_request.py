"""What we add to a create call, count of it, and keep of its body."""

import hashlib
import json
import random

import pytest

from archiver.create import images, request
from archiver.create.rules import problems
from tests.simulator.media import media

GENERATIONS = "images/generations"


def test_a_kept_request_has_no_image_data_address_or_key() -> None:
    content = media("input", "png", (300, 300))
    body = {
        "prompt": "a red fox, " * 50,
        "n": 4,
        "image": images.encode(content),
        "image_tail": "https://user:secret@example.com/a.png?Signature=abc#x",
        "subject_image_list": [{"subject_image": f"data:image/png;base64,{images.encode(content)}"}],
        "options": {"callback_url": "https://us.example/callbacks/token", "mode": "pro"},
        "callback_url": "https://us.example/callbacks/token/images/generations",
        "external_task_id": "ka-1",
    }

    kept = request.request_of(body)
    assert kept["prompt"] == body["prompt"]
    assert kept["n"] == 4
    assert kept["image"] == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert kept["image_tail"] == "https://example.com/a.png"
    assert kept["options"] == {"mode": "pro"}
    assert set(kept) == {"prompt", "n", "image", "image_tail", "subject_image_list", "options"}
    assert len(json.dumps(kept)) < 1500


def test_the_callback_url_names_token_and_family() -> None:
    url = request.callback_url("https://us.example/kling/", token="t0ken", family="images/editing/expand")

    assert url == "https://us.example/kling/callbacks/t0ken/images/editing/expand"


def test_our_external_ids_pass_our_own_rule() -> None:
    made = request.new_external_id(f"{random.Random(1).getrandbits(128):032x}")

    assert problems(GENERATIONS, {"prompt": "a red fox", "external_task_id": made}) == []


@pytest.mark.parametrize(
    ("family", "body", "slots"),
    [
        (GENERATIONS, {"n": 9}, 9),
        (GENERATIONS, {}, 1),
        ("videos/text2video", {"n": 3}, 1),
        (GENERATIONS, {"n": "x"}, 1),
    ],
)
def test_an_image_task_takes_as_many_slots_as_it_makes_images(
    family: str, body: dict[str, object], slots: int
) -> None:
    assert request.slots_of(family, body) == slots
