"""How options, files and standard input become the body of a create."""

import json
import pathlib

import pytest

from tests.harness.command_line import (
    FAMILY,
    OTHER_FAMILY,
    CommandLine,
)
from tests.harness.submitting import FOX, PUBLIC, TOKEN, request_of, sent
from tests.simulator import KlingSimulator


def test_every_option_becomes_its_parameter(
    line: CommandLine, simulator: KlingSimulator, picture: pathlib.Path
) -> None:
    options = ["--model", "kling-v2-1", "--image", str(picture), "--image-reference", "subject"]
    options += ["--image-fidelity", "0.7", "--human-fidelity", "0.4", "--resolution", "2k", "--watermark"]
    result = line.run(*FOX, *options)

    content = picture.read_bytes()
    asked = request_of(line, sent(simulator).task_id)
    assert result.exit_code == 0
    assert asked.pop("image")["bytes"] == len(content)
    assert asked == {
        "prompt": "a red fox",
        "model_name": "kling-v2-1",
        "image_reference": "subject",
        "image_fidelity": 0.7,
        "human_fidelity": 0.4,
        "resolution": "2k",
        "watermark_info": {"enabled": True},
    }
    assert sent(simulator).watermark


@pytest.mark.parametrize(
    ("options", "sides"),
    [
        (["--up", "0.1", "--right", "0.5"], (0.1, 0.0, 0.0, 0.5)),
        (["--target-ratio", "16:9", "--area", "2.0"], (0.1123, 0.1123, 0.3164, 0.3164)),
        (["--target-ratio", "16:9"], (0.0, 0.0, 0.1666, 0.1666)),
        (["--area", "2.25"], (0.25, 0.25, 0.25, 0.25)),
    ],
)
def test_an_expansion_is_given_by_its_sides_or_calculated(
    line: CommandLine,
    simulator: KlingSimulator,
    picture: pathlib.Path,
    options: list[str],
    sides: tuple[float, ...],
) -> None:
    result = line.run("submit", OTHER_FAMILY, "--image", str(picture), *options)

    asked = request_of(line, sent(simulator).task_id)
    up, down, left, right = sides
    assert result.exit_code == 0
    del asked["image"]
    assert asked == {
        "up_expansion_ratio": up,
        "down_expansion_ratio": down,
        "bottom_expansion_ratio": down,
        "left_expansion_ratio": left,
        "right_expansion_ratio": right,
    }
    assert simulator.complaints == []


def test_the_expansion_of_an_image_by_url_is_calculated_from_image_size(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    url = "https://example.com/dog.png?sign=secret"
    result = line.run(
        "submit", OTHER_FAMILY, "--image", url, "--target-ratio", "2:1", "--image-size", "500x500"
    )

    asked = request_of(line, sent(simulator).task_id)
    assert result.exit_code == 0
    assert (asked["left_expansion_ratio"], asked["image"]) == (0.5, "https://example.com/dog.png")


def test_the_body_may_be_given_whole_from_a_file_or_standard_input(
    line: CommandLine, simulator: KlingSimulator, tmp_path: pathlib.Path
) -> None:
    body = {"prompt": "ein Fuchs 🦊", "n": 3, "aspect_ratio": "1:1"}
    file = tmp_path / "body.json"
    file.write_text(json.dumps(body), encoding="utf-8-sig")

    results = [
        line.run("submit", FAMILY, "--body", json.dumps(body)),
        line.run("submit", FAMILY, "--body", f"@{file}"),
        line.run("submit", FAMILY, "--body", "-", stdin=json.dumps(body)),
        line.run(
            "submit",
            FAMILY,
            "--body",
            json.dumps({"prompt": body["prompt"]}),
            "--n",
            "3",
            "--aspect-ratio",
            "1:1",
        ),
    ]
    assert [result.exit_code for result in results] == [0] * 4
    assert [request_of(line, task_id) for task_id in simulator.task_ids()] == [body] * 4


def test_any_family_takes_its_body_unchecked(line: CommandLine, simulator: KlingSimulator) -> None:
    body = {"prompt": "a fox runs", "duration": "5", "mode": "pro"}
    result = line.run("submit", "videos/text2video", "--body", json.dumps(body), **PUBLIC)

    assert result.exit_code == 0
    assert "no rules for videos/text2video: the body is sent unchecked" in result.stderr
    assert sent(simulator).callback_url.endswith(f"/callbacks/{TOKEN}/videos/text2video")
    assert sent(simulator).external_task_id.startswith("ka-")


def test_no_check_sends_a_body_that_breaks_our_rules(line: CommandLine, simulator: KlingSimulator) -> None:
    refused = line.run(*FOX, "--n", "10", "--no-check")

    assert refused.exit_code == 1
    assert "code 1201, HTTP 400: bad request parameter: n" in refused.stderr
    assert simulator.requests["create"] == 1


def test_callback_and_external_id_of_the_body_are_kept(line: CommandLine, simulator: KlingSimulator) -> None:
    simulator.switches.callback_drop = True
    body = {"prompt": "x", "callback_url": "https://other.example/x", "external_task_id": "order-1"}
    result = line.run("submit", FAMILY, "--body", json.dumps(body), **PUBLIC)

    task = sent(simulator)
    assert (task.callback_url, task.external_task_id) == ("https://other.example/x", "order-1")
    assert "callbacks go to the callback_url in the body" in result.stderr
