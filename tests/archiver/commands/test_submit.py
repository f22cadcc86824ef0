"""`submit`: what it takes, what it says, and how it ends, against a simulated account."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from archiver.failures import NotMedia
from archiver.ledger import Ledger
from archiver.model import Callback, DiscoveredBy, State, Status
from tests.harness.command_line import (
    ACCOUNT,
    FAMILY,
    OTHER_FAMILY,
    CommandLine,
    api_task,
    archive,
    bury,
)
from tests.simulator import KlingSimulator, faults
from tests.simulator.media import media

TOKEN = "callback-token-0123456789abcdef"
PUBLIC = {
    "KLING_PUBLIC_URL": "https://us.example/kling",
    "KLING_CALLBACK_TOKEN": f"{TOKEN},an-older-token-0123456789",
}
URL = "https://a.example/b"
FOX = ("submit", FAMILY, "--prompt", "a red fox")


@pytest.fixture
def simulator() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator


@pytest.fixture
def line(tmp_path: pathlib.Path, simulator: KlingSimulator) -> CommandLine:
    """An empty ledger, beside which a daemon was seen just now."""
    line = CommandLine(tmp_path / "ledger.db", simulator=simulator)
    _beat(line)
    return line


def _beat(line: CommandLine) -> None:
    with line.ledger() as ledger:
        ledger.daemons.beat("d", version="1", started_at=line.now)


def sent(simulator: KlingSimulator) -> Any:
    """The one task that was created."""
    (task_id,) = simulator.task_ids()
    return simulator.task(task_id)


def request_of(line: CommandLine, name: str) -> Any:
    with line.ledger(daemon=False) as ledger:
        found = ledger.registrations.known(name, account=ACCOUNT)
        return found and found.request


@pytest.fixture
def picture(tmp_path: pathlib.Path) -> pathlib.Path:
    """A file of 400 × 300 pixels."""
    path = tmp_path / "picture.jpg"
    path.write_bytes(media("picture", "jpeg", (400, 300)))
    return path


# --- created ---


def test_a_task_is_created_registered_and_named(line: CommandLine, simulator: KlingSimulator) -> None:
    result = line.run(*FOX, "--n", "4", "--aspect-ratio", "16:9")

    task = sent(simulator)
    assert result.exit_code == 0
    assert (
        result.stdout
        == f"{task.task_id} is created and registered; see: kling-archiver show {task.task_id}\n"
    )
    assert len(task.indexes) == 4
    shown = json.loads(line.run("show", task.task_id, "--json").stdout)
    assert (shown["state"], shown["family"]) == ("running", FAMILY)
    assert shown["external_task_id"] == task.external_task_id
    assert request_of(line, task.task_id) == {"prompt": "a red fox", "n": 4, "aspect_ratio": "16:9"}
    assert simulator.complaints == []


def test_as_json_prints_one_document(line: CommandLine, simulator: KlingSimulator) -> None:
    printed = json.loads(line.run(*FOX, "--json").stdout)

    task = sent(simulator)
    assert printed == {
        "outcome": "created",
        "task_id": task.task_id,
        "external_task_id": task.external_task_id,
        "account": ACCOUNT,
        "family": FAMILY,
        "state": "running",
        "reason": None,
        "message": None,
        "keys": [],
        "manifest_key": None,
    }


def test_the_callback_url_is_ours_with_the_first_token_and_the_family(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    simulator.switches.callback_drop = True
    result = line.run(*FOX, **PUBLIC)

    url = f"https://us.example/kling/callbacks/{TOKEN}/{FAMILY}"
    assert sent(simulator).callback_url == url
    assert TOKEN not in result.output
    assert result.stderr == ""


def test_the_token_of_the_callback_url_may_be_in_a_file(
    line: CommandLine, simulator: KlingSimulator, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    public = {name: value for name, value in PUBLIC.items() if name != "KLING_CALLBACK_TOKEN"}
    line.run(*FOX, **public, KLING_CALLBACK_TOKEN_FILE=str(tmp_path / "token"))

    assert sent(simulator).callback_url == f"https://us.example/kling/callbacks/{TOKEN}/{FAMILY}"


def test_without_a_public_url_it_says_that_no_callback_will_come(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    said = line.run(*FOX).stderr
    other = line.run("submit", "images/omni-image", "--prompt", "x").stderr

    assert (
        "KLING_PUBLIC_URL is not set, so no callback will come; we follow the task by registration and sweep."
        in said
    )
    assert "by registration (KLING_FAMILIES does not name images/omni-image)." in other
    assert {simulator.task(task_id).callback_url for task_id in simulator.task_ids()} == {None}


def test_a_public_url_without_a_token_is_a_wrong_setting(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    result = line.run(*FOX, KLING_PUBLIC_URL="https://us.example")

    assert result.exit_code == 2
    assert "KLING_CALLBACK_TOKEN" in result.stderr
    assert simulator.task_ids() == []


def test_missing_keys_are_a_wrong_setting(tmp_path: pathlib.Path) -> None:
    result = CommandLine(tmp_path / "ledger.db").run(*FOX)

    assert result.exit_code == 2
    assert "KLING_ACCESS_KEY" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_it_says_that_no_daemon_runs(tmp_path: pathlib.Path, simulator: KlingSimulator) -> None:
    result = CommandLine(tmp_path / "ledger.db", simulator=simulator).with_ledger().run(*FOX)

    assert result.exit_code == 0
    assert "No kling-receiver has been seen on this ledger" in result.stderr


# --- what can be said ---


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


# --- mistakes: nothing is sent ---


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


# --- the API refuses ---


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (400, 1300, "Kling's platform policy does not allow this request (1300)"),
        (400, 1301, "Kling's content safety refuses this request (1301)"),
        (429, 1100, "marked abnormal (1100)"),
        (429, 1101, "in arrears (1101): pay in Kling's console."),
        (429, 1102, "used up or has expired (1102)"),
        (400, 1200, "HTTP 400: because"),
        (400, 1201, "HTTP 400: because"),
    ],
)
def test_a_refusal_is_the_apis_reason_and_status_1_and_nothing_is_registered(
    line: CommandLine, simulator: KlingSimulator, status: int, code: int, advice: str
) -> None:
    simulator.fault("create", faults.ErrorCode(status, code, "because"))
    result = line.run(*FOX, "--external-task-id", "order-1", "--json")

    printed = json.loads(result.stdout)
    assert result.exit_code == 1
    assert advice in result.stderr
    assert (
        f"nothing was created. The API answered a request to create a task of {FAMILY} with code {code}"
        in result.stderr
    )
    assert (printed["outcome"], printed["task_id"]) == ("refused", None)
    assert printed["message"] in result.stderr
    assert line.run("show", "order-1").exit_code == 1
    assert simulator.requests["create"] == 1


def test_an_api_that_repeats_the_callback_url_does_not_make_us_print_the_token(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    url = f"https://us.example/kling/callbacks/{TOKEN}/{FAMILY}"
    simulator.fault("create", faults.ErrorCode(400, 1200, f"bad callback_url {url}"))
    result = line.run(*FOX, "--json", **PUBLIC)

    assert "bad callback_url https://us.example/kling/callbacks/***" in result.stderr
    assert TOKEN not in result.output


def test_an_external_id_of_another_task_is_refused_by_name(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    line.run(*FOX, "--external-task-id", "order-1")
    other = line.run("submit", FAMILY, "--prompt", "a blue fox", "--external-task-id", "order-1")

    assert other.exit_code == 1
    assert (
        f"order-1 belongs to task {sent(simulator).task_id}, which was not created by this request."
        in other.stderr
    )
    assert "Choose another external id" in other.stderr


def test_the_same_command_twice_pays_once(line: CommandLine, simulator: KlingSimulator) -> None:
    line.run(*FOX, "--external-task-id", "order-1")
    again = line.run(*FOX, "--external-task-id", "order-1")

    task_id = sent(simulator).task_id
    assert again.exit_code == 0
    assert again.stdout == f"{task_id} existed already (running); see: kling-archiver show {task_id}\n"
    assert "nothing was created or paid now" in again.stderr


# --- over concurrency ---


def test_without_free_slots_it_says_how_many_are_needed_and_when_it_tries_again(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    simulator.switches.slots_max = 4
    busy = simulator.create_task(images=2)

    def free_at_the_second() -> None:
        if len(line.pauses) == 2:
            simulator.succeed(busy)

    line.on_pause = free_at_the_second
    result = line.run(*FOX, "--n", "4")

    lines = [text for text in result.stderr.splitlines() if "1303" in text]
    assert result.exit_code == 0
    assert len(lines) == 2
    assert "the account does not have 4 slots free (1303): trying again in " in lines[0]
    assert line.pauses[0] >= 1
    assert line.pauses[1] > 1


def test_waiting_for_slots_ends_at_the_timeout_with_nothing_created(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    simulator.fault("create", faults.over_concurrency())
    result = line.run(*FOX, "--timeout", "10", "--json")

    assert result.exit_code == 1
    assert "no slot became free in time. Nothing was created." in result.stderr
    assert json.loads(result.stdout)["outcome"] == "refused"
    assert sum(line.pauses) <= 10
    assert sum(json.loads(line.run("status", "--json").stdout)["states"].values()) == 0


# --- the answer is lost ---


def test_a_lost_answer_is_looked_for_and_found(line: CommandLine, simulator: KlingSimulator) -> None:
    simulator.fault("create", faults.Cut(kept=0), times=1)
    result = line.run(*FOX)

    assert result.exit_code == 0
    assert "Asking for the task by its external id." in result.stderr
    assert sent(simulator).task_id in result.stdout
    assert simulator.requests["create"] == 1


@pytest.mark.parametrize(
    ("happened", "said"),
    [
        (False, "The API knows no task with that external id so far, so probably none was created."),
        (True, "The API cannot be asked now whether it was created."),
    ],
)
def test_an_unknown_outcome_says_what_to_do_and_doing_it_is_safe(
    line: CommandLine, simulator: KlingSimulator, happened: bool, said: str
) -> None:
    simulator.fault("create", faults.Happened(faults.server_error()) if happened else faults.Drop(), times=1)
    if happened:
        simulator.fault("query", faults.Html(502))
    result = line.run(*FOX, "--json", "--wait")
    printed = json.loads(result.stdout)
    name = printed["external_task_id"]

    assert (result.exit_code, printed["outcome"]) == (1, "unknown")
    assert said in result.stderr
    assert f"kling-archiver show {name}" in result.stderr
    assert f"repeat the command with --external-task-id {name}" in result.stderr
    assert line.run("show", name).exit_code == 0

    simulator.clear_faults()
    again = line.run(*FOX, "--external-task-id", name)
    assert again.exit_code == 0
    assert sent(simulator).task_id in again.stdout


# --- waiting ---


def _other(line: CommandLine) -> Ledger:
    return Ledger.open(f"sqlite:///{line.path}", daemon=False, now=lambda: line.now)


def test_wait_prints_each_change_once_and_then_the_keys(line: CommandLine, simulator: KlingSimulator) -> None:
    """The daemon's part is played between two looks of the command."""

    def daemon() -> None:
        ledger = _other(line)
        ledger.daemons.beat("d", version="1", started_at=line.now)
        task_id = sent(simulator).task_id
        if len(line.pauses) == 3:
            ledger.records.record(
                [api_task(task_id)], account=ACCOUNT, discovered_by=DiscoveredBy.SWEEP, rand=0.5
            )
        if len(line.pauses) == 5:
            archive(ledger, task_id)
        ledger.close()

    line.on_pause = daemon
    result = line.run(*FOX, "--wait", **PUBLIC)

    task_id = sent(simulator).task_id
    folder = f"kling/{FAMILY}/2026/11/20/{task_id}"
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [f"{folder}/0.png", f"{folder}/manifest.json"]
    assert result.stderr.splitlines() == [
        f"kling-archiver: {task_id} is being generated",
        f"kling-archiver: {task_id} has succeeded: 0 of 1 file in the bucket",
    ]
    assert set(line.pauses) == {0.5}


@pytest.mark.parametrize("state", [State.FAILED, State.BURIED])
def test_wait_ends_with_status_1_if_the_task_fails_or_is_buried(
    line: CommandLine, simulator: KlingSimulator, state: State
) -> None:
    def daemon() -> None:
        ledger, task_id = _other(line), sent(simulator).task_id
        status = Status.FAILED if state is State.FAILED else Status.SUCCEEDED
        ledger.records.record(
            [api_task(task_id, status, message="unsafe")],
            account=ACCOUNT,
            discovered_by=DiscoveredBy.SWEEP,
            rand=0.5,
        )
        if state is State.BURIED:
            bury(ledger, task_id, NotMedia("0 is HTML"))
        ledger.close()

    line.on_pause = daemon
    result = line.run(*FOX, "--wait", "--json")

    printed = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (printed["outcome"], printed["state"], printed["keys"]) == ("created", state, [])
    assert ("unsafe" if state is State.FAILED else "0 is HTML") in result.stderr
    assert printed["reason"] == ("failed_upstream" if state is State.FAILED else "not_media")


def test_wait_ends_with_status_1_once_the_task_is_forgotten(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    def forget() -> None:
        ledger = _other(line)
        ledger.tombstones.forget(sent(simulator).task_id, account=ACCOUNT)
        ledger.close()

    line.on_pause = forget
    result = line.run(*FOX, "--wait", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["reason"] == "task_forgotten"
    assert len(line.pauses) == 1


def test_wait_gives_up_at_the_timeout_and_says_how_to_go_on(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    result = line.run(*FOX, "--wait", "--timeout", "30")

    task_id = sent(simulator).task_id
    assert result.exit_code == 1
    assert "the results are not there yet." in result.stderr
    assert f"kling-archiver show {task_id}" in result.stderr
    assert 29 <= sum(line.pauses) <= 31


def test_wait_says_when_the_daemon_has_gone(line: CommandLine) -> None:
    result = line.run(*FOX, "--wait", "--timeout", "150")

    assert result.stderr.count("No kling-receiver has been seen on this ledger") == 1
    assert len(line.pauses) > 100


def test_an_existing_archived_task_prints_its_keys_at_once(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    line.run(*FOX, "--external-task-id", "order-1")
    task_id = sent(simulator).task_id
    with line.ledger() as ledger:
        ledger.records.record(
            [api_task(task_id)], account=ACCOUNT, discovered_by=DiscoveredBy.SWEEP, rand=0.5
        )
        archive(ledger, task_id)
    again = line.run(*FOX, "--external-task-id", "order-1", "--wait")

    assert again.exit_code == 0
    assert again.stdout.splitlines()[-1].endswith(f"{task_id}/manifest.json")
    assert line.pauses == []


def test_a_callback_before_the_answer_makes_no_second_task(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    def call_back() -> None:
        ledger = _other(line)
        ledger.callbacks.record([Callback(ACCOUNT, sent(simulator).task_id, Status.SUCCEEDED, FAMILY)])
        ledger.close()

    simulator.fault("create", faults.Cut(kept=0), times=1)
    line.on_pause = call_back
    simulator.fault("query", faults.ErrorCode(400, 1201, "task not found"), times=1)
    line.run(*FOX)

    states = json.loads(line.run("status", "--json").stdout)["states"]
    assert sum(states.values()) == 1
    assert request_of(line, sent(simulator).task_id) == {"prompt": "a red fox"}
