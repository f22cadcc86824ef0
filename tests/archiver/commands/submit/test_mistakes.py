"""A mistake in the options is a sentence and status 2; nothing is sent."""

import json
import pathlib

import pytest

from tests.harness.command_line import (
    FAMILY,
    OTHER_FAMILY,
    CommandLine,
)

URL = "https://a.example/b"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([FAMILY], "prompt is required."),
        ([FAMILY, "--prompt", "x" * 2501], "prompt must be at most 2500 characters"),
        ([FAMILY, "--prompt", "x", "--n", "10"], "n must be a whole number from 1 to 9, not 10."),
        ([FAMILY, "--prompt", "x", "--n", "four"], "--n"),
        ([FAMILY, "--prompt", "x", "--model", "kling-v9"], "model_name must be one of kling-v1,"),
        (
            [FAMILY, "--prompt", "x", "--up", "1"],
            "up_expansion_ratio is not a parameter of images/generations",
        ),
        (
            [FAMILY, "--prompt", "x", "--image", "nowhere.png"],
            "--image 'nowhere.png' is neither a readable file",
        ),
        (
            [FAMILY, "--prompt", "x", "--image", "/"],
            "--image '/' is neither a readable file (Is a directory)",
        ),
        ([FAMILY, "--prompt", "x", "--image", "data:image/png;base64,iVBO"], "image must be bare Base64"),
        ([FAMILY, "--prompt", "x", "--image", "pyproject.toml"], "image must be a PNG or JPEG image"),
        ([FAMILY, "--prompt", "\udcff"], "prompt must be UTF-8."),
        ([FAMILY, "--body", "{"], "--body must be a JSON object, @FILE or -: "),
        ([FAMILY, "--body", "[]"], "--body must be a JSON object, such as"),
        ([FAMILY, "--body", '{"n": NaN}'], "--body must not hold NaN"),
        ([FAMILY, "--body", '{"n": 1e999}'], "--body must not hold a number too large for a float"),
        ([FAMILY, "--body", '{"n": 1, "n": 2}'], "--body must not name a parameter twice"),
        ([FAMILY, "--body", '{"prompt": "\\ud800"}', "--no-check"], "--body must be UTF-8."),
        ([FAMILY, "--body", "[" * 100_000], "--body must not be nested deeper"),
        (
            [FAMILY, "--body", f'{{"a": {"[" * 500}{"]" * 500}}}', "--no-check"],
            "--body must not be nested deeper",
        ),
        ([FAMILY, "--body", "@nowhere.json"], "--body @nowhere.json: No such file or directory."),
        ([FAMILY, "--body", '{"prompt": "x"}', "--prompt", "y"], "prompt is in the body of --body and"),
        ([FAMILY, "--prompt", "x", "--external-task-id", "a/b"], "external_task_id must be 1 to 64 of"),
        ([FAMILY, "--prompt", "x", "--external-task-id", "..", "--no-check"], "external_task_id must be"),
        ([FAMILY, "--body", '{"external_task_id": 5}', "--no-check"], "external_task_id must be"),
        ([OTHER_FAMILY], "image is required."),
        (
            [OTHER_FAMILY, "--image", URL, "--up", "2.1"],
            "up_expansion_ratio must be a number from 0 to 2",
        ),
        (
            [OTHER_FAMILY, "--image", URL, "--up", "1.5", "--left", "0.5"],
            "make 3.75 times the image's area",
        ),
        (
            [OTHER_FAMILY, "--image", URL, "--area", "2"],
            "need the size of the image",
        ),
        (
            [OTHER_FAMILY, "--image", URL, "--up", "1", "--area", "2"],
            "give one or the other",
        ),
        ([OTHER_FAMILY, "--image-size", "5x5"], "--image-size is for --target-ratio and --area only"),
        (
            [OTHER_FAMILY, "--target-ratio", "wide", "--image-size", "5x5"],
            "--target-ratio must be width:height",
        ),
        (
            [OTHER_FAMILY, "--target-ratio", "9:1", "--image-size", "5x5"],
            "--area: the target ratio needs 9.00",
        ),
        (
            ["/v1/images/generations", "--prompt", "x"],
            "FAMILY takes the path without /v1 and outer slashes",
        ),
        (["generations", "--prompt", "x"], "FAMILY must be two or three path segments"),
        (["audio/tts", "--body", "{}"], "audio/tts answers at once and makes no task"),
    ],
)
def test_a_mistake_is_a_sentence_and_status_2_before_anything_is_registered(
    tmp_path: pathlib.Path, arguments: list[str], said: str
) -> None:
    keys = {"KLING_API_KEY": "any-key", "KLING_BASE_URL": "http://127.0.0.1:9"}
    result = CommandLine(tmp_path / "ledger.db").run("submit", *arguments, **keys)

    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("body", ['{"prompt": "a red fox"}', "@body.json", "-", "[]"])
def test_a_body_behind_json_is_refused_before_anything_is_sent(line: CommandLine, body: str) -> None:
    result = line.run("submit", FAMILY, "--json", body, "--prompt", "a red fox")

    assert result.exit_code == 2
    assert "give the API's own body with --body. Nothing was sent." in " ".join(result.stderr.split())
    assert sum(json.loads(line.run("status", "--json").stdout)["states"].values()) == 0


def test_as_json_is_another_name_of_json(line: CommandLine) -> None:
    result = line.run("submit", FAMILY, "--prompt", "a red fox", "--as-json", "--timeout", "0")

    assert "outcome" in json.loads(result.stdout)


def test_an_endless_body_is_refused(line: CommandLine) -> None:
    result = line.run("submit", FAMILY, "--body", "@/dev/zero")

    assert result.exit_code == 2
    assert "more than 64 MiB" in result.stderr
