"""A task object in the other dialect of the API: the same task, with the same files."""

import json
from typing import Any

import pytest

from archiver.kling.dialects import Dialect, dialect_of, dialect_of_family, in_dialect, with_strings
from archiver.kling.results import read_task
from archiver.model import Role, Task
from tests.harness.repository import SAMPLES

URL = "https://cdn.klingai.com/a.png"


def sample(name: str) -> Any:
    data = json.loads((SAMPLES / name).read_text())["data"]
    return data[0] if isinstance(data, list) else data


def essence(task: Task) -> object:
    files = sorted((asset.url, asset.role, asset.watermarked) for asset in task.assets)
    return (
        task.task_id,
        task.status,
        task.message,
        task.created_at,
        task.updated_at,
        task.external_task_id,
        files,
    )


@pytest.mark.parametrize(
    ("name", "stems"),
    [
        ("generations_single.json", None),
        ("generations_failed.json", None),
        ("generations_processing_2024.json", None),
        ("expand_list.json", None),
        ("video_to_audio.json", None),
        ("custom_voices.json", None),
        ("tasks_query.json", ["0", "0.watermark", "audio-0.mp3", "audio-0.wav", "video-0"]),
    ],
)
def test_a_task_says_the_same_in_both_dialects_and_after_the_way_back(
    name: str, stems: list[str] | None
) -> None:
    document = sample(name)
    own = dialect_of(document)
    other = Dialect.LEGACY if own is Dialect.NEW_STANDARD else Dialect.NEW_STANDARD
    before = json.dumps(document)
    there = in_dialect(document, other)
    back = in_dialect(there, own)
    task = read_task(there, family="a/b")

    assert dialect_of(there) is other
    assert in_dialect(document, own) is document
    assert essence(task) == essence(read_task(document, family="a/b"))
    assert essence(read_task(back, family="a/b")) == essence(task)
    assert stems is None or sorted(asset.stem for asset in task.assets) == stems
    assert json.dumps(document) == before, "the object itself stays as it was"


def test_numbered_pictures_become_outputs_of_their_own() -> None:
    document = sample("ai_multi_shot.json")
    row = document["task_result"]["images"][0]
    outputs = in_dialect(document, Dialect.NEW_STANDARD)["outputs"]

    assert [output["url"] for output in outputs] == [row[f"url_{number}"] for number in (1, 2, 3)]
    assert {output["type"] for output in outputs} == {"image"}


def test_a_series_is_told_apart_where_the_caller_knows_it() -> None:
    document = in_dialect(sample("omni_image_series.json"), Dialect.NEW_STANDARD)

    for is_series, role in ((False, Role.IMAGE), (True, Role.SERIES_IMAGE)):
        task = read_task(in_dialect(document, Dialect.LEGACY, is_series=is_series), family="a/b")
        assert {asset.role for asset in task.assets} == {role}


def test_words_and_fields_of_one_dialect_become_those_of_the_other() -> None:
    legacy = {
        "task_id": "1", "task_status": "succeed", "task_status_msg": "", "task_info": {"external_task_id": "e"},
        "created_at": 1, "updated_at": 2, "final_unit_deduction": "3",
        "task_result": {"images": [{"index": 0, "url": URL}]},
    }  # fmt: skip
    new = {
        "id": "1", "status": "succeeded", "message": "", "create_time": 1, "update_time": 2,
        "final_unit_deduction": "3", "external_id": "e", "outputs": [{"type": "image", "index": 0, "url": URL}],
    }  # fmt: skip

    assert in_dialect(legacy, Dialect.NEW_STANDARD) == new
    assert in_dialect(new, Dialect.LEGACY) == legacy


@pytest.mark.parametrize("status", ["submitted", "processing", "failed"])
def test_other_states_keep_their_word(status: str) -> None:
    assert in_dialect({"id": "1", "status": status}, Dialect.LEGACY)["task_status"] == status


def test_strings_are_replaced_in_a_copy() -> None:
    document = {"task_result": {"images": [{"url": URL}]}}

    assert with_strings(document, {("task_result", "images", 0, "url"): "L"}) == {
        "task_result": {"images": [{"url": "L"}]}
    }
    assert document["task_result"]["images"][0]["url"] == URL


def test_strings_are_replaced_beside_any_depth() -> None:
    deep: dict[str, object] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    document = {"deep": deep, "outputs": [{"url": URL}, {"url": URL}]}

    changed = with_strings(document, {("outputs", 0, "url"): "0", ("outputs", 1, "url"): "1"})
    assert changed["outputs"] == [{"url": "0"}, {"url": "1"}]
    assert changed["deep"] is deep


def test_each_family_has_the_dialect_of_its_own_path() -> None:
    assert dialect_of_family("images/generations") is Dialect.LEGACY
    assert dialect_of_family("tasks/image") is Dialect.NEW_STANDARD
    assert dialect_of_family("solutions/virtual_try_on") is None
    assert in_dialect({"id": "1"}, None) == {"id": "1"}
