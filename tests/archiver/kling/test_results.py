"""What `kling/results` reads out of the API's answers: recorded shapes, slips of the API, and arbitrary JSON."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver import model
from archiver.failures import ApiAnswerUnreadable
from archiver.families import FAMILIES, families_fitting, file_name
from archiver.kling.responses import ApiResponse, placed_rows
from archiver.kling.results import read_task, readable_id
from archiver.model import Role, Status, Task
from archiver.store.links import LinkSigner, links_of
from tests.harness.repository import SAMPLES

URL = "https://cdn.klingai.com/a.png"


def sample(name: str) -> Any:
    return json.loads((SAMPLES / name).read_text())["data"]


def task_of(result: object, **fields: object) -> Task:
    document = {"task_id": "1", "task_status": "succeed", "task_result": result, **fields}
    return read_task(document, family="images/generations")


SIGNER = LinkSigner(["s" * 32], public_url="https://kling.example.com")


def stems(task: Task) -> list[str]:
    return [asset.stem for asset in task.assets]


@pytest.mark.parametrize(
    ("name", "family", "expected"),
    [
        ("generations_single.json", "images/generations", ["0", "0.watermark", "1"]),
        ("omni_image_series.json", "images/omni-image", ["series-0", "series-1", "series-2"]),
        ("ai_multi_shot.json", "general/ai-multi-shot", ["0-1", "0-2", "0-3"]),
        ("video_to_audio.json", "audio/video-to-audio", ["video-0", "audio-0.mp3", "audio-0.wav"]),
        ("custom_voices.json", "general/custom-voices", ["voice-0"]),
    ],
)
def test_recorded_results_get_the_names_of_the_contract(name: str, family: str, expected: list[str]) -> None:
    task = read_task(sample(name), family=family)

    assert stems(task) == expected
    assert task.status is Status.SUCCEEDED
    assert task.unknown_fields in ((), ("images[1] without a URL",))


def test_a_single_answer_is_read_with_everything_that_stands_beside_its_results() -> None:
    document = sample("generations_single.json")
    task = read_task(document, family="images/generations")

    assert (task.task_id, task.external_task_id) == ("828338674605228111", "order 7/é")
    assert (task.created_at, task.updated_at) == (1765520056123, 1765520080995)
    assert task.document is document
    assert [asset.index for asset in task.assets] == [0, 0, 1]
    assert [asset.watermarked for asset in task.assets] == [False, True, False]
    assert {asset.role for asset in task.assets} == {Role.IMAGE}
    assert task.assets[0].url == sample("generations_single.json")["task_result"]["images"][0]["url"]


def test_the_new_standard_is_read_with_its_own_words_and_its_order_as_names() -> None:
    task = read_task(sample("tasks_query.json")[0], family="tasks/video")

    assert (task.task_id, task.external_task_id) == ("930810057590833241", "mine-1")
    assert (task.created_at, task.updated_at) == (1781080778802, 1781080794151)
    assert stems(task) == ["0", "0.watermark", "video-1", "audio-2.mp3", "audio-2.wav"]
    assert [asset.index for asset in task.assets] == [None] * 5


def test_a_video_that_a_task_started_from_is_no_result_of_it() -> None:
    task = read_task(sample("video_to_audio.json"), family="audio/video-to-audio")

    assert not any("parent" in asset.url for asset in task.assets)


def test_a_url_inside_a_known_row_that_no_table_knows_is_kept_and_reported() -> None:
    task = read_task(sample("custom_elements.json"), family="general/advanced-custom-elements")

    roles = {asset.stem: asset.role for asset in task.assets}
    nested = "element-0.element_image_list.refer_images.0.image_url"
    assert roles == {"element-0": Role.ELEMENT, nested: Role.OTHER}
    assert task.unknown_fields == ("elements[].element_image_list.refer_images.0.image_url",)


def test_a_failure_keeps_the_reason_of_the_api_and_a_success_has_none() -> None:
    failed = read_task(sample("generations_failed.json"), family="images/generations")

    assert (failed.status, failed.message) == (Status.FAILED, "Failure to pass the risk control system")
    assert task_of({}, task_status_msg="all well").message == ""


@pytest.mark.parametrize("result", [None, {}, [], {"images": None}, {"images": []}, {"images": {}}, "", 7])
def test_an_empty_result_in_any_spelling_has_no_assets_and_nothing_to_report(result: object) -> None:
    task = task_of(result)

    assert (task.assets, task.unknown_fields) == ((), ())


def test_a_task_without_any_result_field_has_no_assets() -> None:
    assert read_task({"task_id": "1", "task_status": "processing"}, family="a/b").assets == ()


@pytest.mark.parametrize(
    ("indexes", "names"),
    [
        ([3, 1], ["3", "1"]),
        (["4", "0"], ["4", "0"]),
        ([1, 1], ["0", "1"]),
        ([2, None], ["0", "1"]),
        ([-1, 5], ["0", "1"]),
        ([True, 5], ["0", "1"]),
        ([1.0, 5], ["0", "1"]),
        (["07", 5], ["0", "1"]),
        ([10**400, 5], ["0", "1"]),
        ([1_000_000, 5], ["0", "1"]),
    ],
)
def test_rows_are_named_by_their_indexes_only_if_all_have_a_sound_one_of_their_own(
    indexes: list[object], names: list[str]
) -> None:
    rows = [{"index": index, "url": f"{URL}?{place}"} for place, index in enumerate(indexes)]

    assert stems(task_of({"images": rows})) == names


def test_a_row_without_index_is_named_by_its_place_and_says_so() -> None:
    task = task_of({"images": [{"url": URL}]})

    assert (task.assets[0].stem, task.assets[0].index) == ("0", None)


@pytest.mark.parametrize("row", [{"index": 0}, {"index": 0, "url": None}, {"index": 0, "url": " "}, None, 7])
def test_a_row_without_url_is_skipped_without_moving_the_others_and_reported(row: object) -> None:
    task = task_of({"images": [row, {"index": 1, "url": URL}]})

    assert stems(task) == ["1"]
    assert task.unknown_fields == ("images[0] without a URL",)


def test_a_missing_url_of_an_unfinished_task_is_nothing_to_report() -> None:
    assert task_of({"images": [{"index": 0}]}, task_status="processing").unknown_fields == ()


def test_every_array_is_scanned_also_an_unknown_one() -> None:
    task = task_of({"images": [{"url": URL}], "pano ramas/../": [{"url": URL}], "tags": ["warm"]})

    assert [(asset.stem, asset.role) for asset in task.assets] == [
        ("0", Role.IMAGE),
        ("pano-ramas-0", Role.OTHER),
    ]
    assert task.unknown_fields == ("pano-ramas[]", "tags[]")


def test_a_url_field_beside_the_arrays_is_kept_as_well() -> None:
    task = task_of({"cover_url": URL, "session_id": "https://no-url-field.example/"})

    assert [(asset.stem, asset.url) for asset in task.assets] == [("cover_url-0", URL)]
    assert "cover_url[]" in task.unknown_fields


@pytest.mark.parametrize("images", [{"index": 0, "url": URL}, [URL]])
def test_one_object_or_a_bare_url_in_place_of_rows_is_taken_for_a_row(images: object) -> None:
    assert stems(task_of({"images": images})) == ["0"]


def test_names_do_not_depend_on_the_order_of_keys() -> None:
    row = {"url": "https://a/1", "url_mp3": "https://a/2", "preview_url": "https://a/3"}
    one = task_of({"audios": [row], "new": [row]})
    other = task_of({"new": [row], "audios": [dict(reversed(row.items()))]})

    assert len(one.assets) == 6
    assert one.assets == other.assets


def test_a_field_we_know_never_loses_its_name_to_one_we_do_not() -> None:
    alone = stems(task_of({"voices": [{"trial_url": URL}]}))
    clashing = stems(task_of({"series": [{"url": URL}], "voices": [{"trial_url": URL}], "voice": [URL]}))

    assert alone == ["voice-0"]
    assert "voice-0" in clashing
    assert len(set(clashing)) == 3


def test_the_two_formats_of_one_audio_end_up_as_the_two_files_of_the_contract() -> None:
    assert file_name("audio-0.mp3", extension="mp3") == "audio-0.mp3"
    assert file_name("audio-0.wav", extension="wav") == "audio-0.wav"
    assert file_name("audio-0.mp3", extension="wav") == "audio-0.mp3.wav"
    assert file_name("0.watermark", extension="png") == "0.watermark.png"


def test_files_of_one_task_never_share_a_name_whatever_format_the_bytes_turn_out_to_have() -> None:
    row = {"url": "https://a/1", "url_mp3": "https://a/2", "url_wav": "https://a/3", "url_1": "https://a/4"}
    found = stems(task_of({"audios": [row, row]}))

    for extension in ("mp3", "wav", "png"):
        assert len({file_name(stem, extension=extension) for stem in found}) == 8
    assert {"audio-0", "audio-1"} <= set(found)


@pytest.mark.parametrize(
    "identifier", [828338674605228111, "828338674605228111", "CjikY2gHPbcAAAAADfR_DQ", "a~.b-c_d"]
)
def test_ids_are_strings_whatever_the_api_writes(identifier: object) -> None:
    document = {"task_id": identifier, "task_status": "submitted"}

    assert read_task(document, family="a/b").task_id == str(identifier)
    assert readable_id(document) == str(identifier)


@pytest.mark.parametrize(
    "identifier", [None, "", True, 1.5, -1, "..", "a/b", "a b", "é", "x" * 129, ["1"], {}]
)
def test_an_id_that_is_none_makes_a_task_unreadable(identifier: object) -> None:
    document = {"task_id": identifier, "task_status": "submitted"}

    with pytest.raises(ApiAnswerUnreadable):
        read_task(document, family="a/b")
    assert readable_id(document) is None


def test_an_id_of_endless_digits_makes_a_task_unreadable() -> None:
    assert readable_id({"task_id": 10**5000}) is None


@pytest.mark.parametrize("word", [None, "", "done", 1, ["succeed"], {"succeed": 1}, "\ud800", True])
def test_an_unknown_status_makes_a_task_unreadable(word: object) -> None:
    with pytest.raises(ApiAnswerUnreadable):
        read_task({"task_id": "1", "task_status": word}, family="a/b")


def test_an_endless_url_is_refused_and_not_cut() -> None:
    with pytest.raises(ApiAnswerUnreadable):
        task_of({"images": [{"url": "https://a/" + "x" * 70_000}]})


@pytest.mark.parametrize("external", [None, "", {}, [], True])
def test_an_external_id_that_says_nothing_is_none(external: object) -> None:
    assert task_of({}, task_info={"external_task_id": external}).external_task_id is None


def test_what_a_user_typed_is_storable_whatever_it_was() -> None:
    task = task_of({}, task_info={"external_task_id": "a\0\ud800b"})

    assert task.external_task_id == "a?b"


@pytest.mark.parametrize("deep", [True, False])
def test_nesting_of_any_depth_is_read_without_recursion(deep: bool) -> None:
    inner: object = {"url": URL}
    for _ in range(5000 if deep else 3):
        inner = {"url": inner} if deep else [inner]
    task = task_of({"images": [inner]})

    assert [asset.role for asset in task.assets] == [Role.OTHER]
    assert len(task.assets[0].stem) < 200


# --- arbitrary JSON -------------------------------------------------------------------------------------

KEYS = st.sampled_from(
    [
        *(
            "task_id",
            "id",
            "task_status",
            "status",
            "task_result",
            "task_info",
            "external_task_id",
            "outputs",
        ),
        *("images", "videos", "audios", "index", "url", "watermark_url", "url_1", "url_mp3", "type", "x_url"),
        *("created_at", "updated_at", "message", "parent_video", "../odd\ud800"),
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(["succeed", "succeeded", "failed", "7", URL, "HTTP://x", "image", "\ud800", "\0"])
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(), inner, max_size=6),
    max_leaves=40,
)


def outcome(document: object) -> Task | None:
    try:
        return read_task(document, family="images/generations")
    except ApiAnswerUnreadable:
        return None


@given(JSON)
def test_any_json_is_a_task_or_unreadable(document: object) -> None:
    readable_id(document)
    outcome(document)


@pytest.mark.parametrize("end", ["\u00a0", "\u3000", "\u2003"])
def test_a_space_that_browsers_keep_at_the_end_of_a_url_is_kept(end: str) -> None:
    task = task_of({"images": [{"index": 0, "url": f" \t{URL}{end}\n "}]})

    assert [asset.url for asset in task.assets] == [URL + end]


@pytest.mark.parametrize("blank", ["", " ", "\0", " \0\t\0 ", "\u00a0"])
def test_a_url_of_nothing_is_no_asset(blank: str) -> None:
    row = {"index": 0, "url": URL, "watermark_url": blank}
    task = outcome({"task_id": "7", "task_status": "succeed", "task_result": {"images": [row]}})

    assert task is not None
    assert [asset.url for asset in task.assets] == [URL]


@given(JSON, JSON)
def test_any_result_of_a_task_gives_safe_unique_names(result: object, outputs: object) -> None:
    document = {"task_id": "7", "task_status": "succeed", "task_result": result, "outputs": outputs}
    task = outcome(document)

    assert task is not None
    assert len(set(stems(task))) == len(task.assets)
    for asset in task.assets:
        assert asset.stem.isascii()
        assert set("/\\ \0").isdisjoint(asset.stem)
        assert asset.url.encode()
        assert file_name(asset.stem, extension="json") != "manifest.json"
        assert model.text(url_at(document, asset.place), limit=99) == asset.url
    links = links_of(
        SIGNER,
        task.assets,
        account="default",
        family=task.family,
        created_at=1_795_651_200_000,
        task_id=task.task_id,
        names={},
    )
    assert len(set(links.values())) == len(task.assets), "every file has a link of its own"


def url_at(document: Any, place: model.Place) -> str:
    for step in place:
        document = document[step]
    assert isinstance(document, str)
    return document.replace("\0", "").strip("".join(map(chr, range(33))))


@pytest.mark.parametrize(
    ("result", "beside", "expected"),
    [
        ({"images": [{}, {"index": 3, "url": URL}]}, {}, [("task_result", "images", 1, "url")]),
        ({"images": {"url_2": URL}}, {}, [("task_result", "images", "url_2")]),
        ({"images": [URL]}, {}, [("task_result", "images", 0)]),
        ({"cover_url": URL}, {}, [("task_result", "cover_url")]),
        ([{"url": URL}], {}, [("task_result", 0, "url")]),
        ({"images": []}, {"images": [{"watermark_url": URL}]}, [("images", 0, "watermark_url")]),
        ({"images": [{"more": {"urls": [None, URL]}}]}, {}, [("task_result", "images", 0, "more", "urls", 1)]),
        (None, {"outputs": {"type": "video", "url": URL}}, [("outputs", "url")]),
        (None, {"outputs": [{"type": "audio", "wav_url": URL}]}, [("outputs", 0, "wav_url")]),
    ],
)  # fmt: skip
def test_each_asset_names_the_place_of_its_url_in_the_task_object(
    result: object, beside: dict[str, object], expected: list[model.Place]
) -> None:
    assert [asset.place for asset in task_of(result, **beside).assets] == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"task_id": "1", "result": []}, [("data",)]),
        ({"id": "1"}, [("data",)]),
        ([{"id": "1"}, 2], [("data", 0), ("data", 1)]),
        ({"result": [{"id": "1"}], "count": 1}, [("data", "result", 0)]),
        ({"count": 0, "has_more": False}, []),
        (None, []),
    ],
)
def test_each_task_object_of_an_answer_is_found_with_its_place(
    data: object, expected: list[model.Place]
) -> None:
    answer = ApiResponse(code=0, message="", request_id="", data=data)

    assert [place for place, _ in placed_rows(answer)] == expected


# --- which family to try first --------------------------------------------------------------------------


def test_families_that_fit_all_arrays_come_first_then_some_then_strangers_then_the_rest() -> None:
    configured = [
        "videos/text2video",
        "images/brand-new",
        "images/generations",
        "images/omni-image",
        "images/generations",
    ]

    assert families_fitting(["images", "series_images"], configured) == [
        "images/omni-image",
        "images/generations",
        "images/brand-new",
        "videos/text2video",
    ]


def test_without_arrays_the_configured_order_stands() -> None:
    assert families_fitting([], ["videos/effects", "images/generations"]) == [
        "videos/effects",
        "images/generations",
    ]


def test_every_family_of_the_table_is_a_safe_path() -> None:
    assert len(FAMILIES) == 25
    assert all(model.FAMILY.fullmatch(family) for family in FAMILIES)
    assert not any(model.FAMILY.fullmatch(path) for path in ("foo_bar/baz", "tasks/try_on/1", "solutions/_"))


def test_a_link_that_nothing_calls_a_url_is_said_and_not_fetched() -> None:
    task = read_task(
        {
            "task_id": "1",
            "task_status": "succeed",
            "task_result": {
                "images": [{"index": 0, "url": "https://x/0.png", "help": "https://x/help.html"}],
                "terms": "https://x/terms",
                "result_type": "single",
            },
        },
        family="images/generations",
    )

    assert [asset.stem for asset in task.assets] == ["0"]
    assert task.unknown_fields == ("images[].help not fetched", "task_result[].terms not fetched")


@pytest.mark.parametrize("nothing", ["", "  ", "\0", " \0 "])
def test_a_url_of_nothing_that_can_be_stored_is_no_asset(nothing: str) -> None:
    document = {"task_id": "1", "task_status": "succeed", "outputs": [{"type": "image", "url": nothing}]}

    assert read_task(document, family="tasks/image").assets == ()


@pytest.mark.parametrize("beside", [{}, {"task_result": {}}, {"task_result": {"images": []}}])
def test_an_array_of_results_may_stand_beside_task_result(beside: dict[str, object]) -> None:
    document = {"task_id": "1", "task_status": "succeed", "images": [{"url": "https://x/0.png"}], **beside}
    task = read_task(document, family="solutions/virtual_try_on")

    assert [(asset.stem, asset.role) for asset in task.assets] == [("0", Role.IMAGE)]
    assert task.unknown_fields == ()


@pytest.mark.parametrize(
    "nothing",
    [
        *(
            None,
            "",
            " ",
            "null",
            "None",
            "none",
            "-",
            "N/A",
            "/bs2/a.png",
            "a.png",
            "//cdn.klingai.com/a.png",
        ),
        *(
            "https://",
            "http:/a",
            "data:image/png;base64,AAAA",
            "ftp://cdn.klingai.com/a.png",
            0,
            False,
            [],
            {},
        ),
    ],
)
@pytest.mark.parametrize("field", ["watermark_url", "watermark_url_1"])
def test_a_watermark_that_is_no_url_is_no_watermark(nothing: object, field: str) -> None:
    task = task_of({"images": [{"index": 0, "url": URL, field: nothing}]})

    assert stems(task) == ["0"]
    assert task.unknown_fields == ()


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [
        (1_765_520_056_123, 1_765_520_056_123),
        (1_765_520_056, 1_765_520_056_000),
        (1_765_520_056_123_456, 1_765_520_056_123),
        ("1765520056123456", 1_765_520_056_123),
        (1.765520056123456e15, 1_765_520_056_123),
        ("2025-12-12T06:14:16.123Z", 1_765_520_056_123),
        ("2025-12-12T06:14:16.123999999z", 1_765_520_056_123),
        ("2025-12-12t14:14:16+08:00", 1_765_520_056_000),
        ("2025-12-12 06:14:16.1Z", 1_765_520_056_100),
        ("2025-12-12T06:14:16", None),
        ("2025-12-12", None),
        ("2025-13-12T06:14:16Z", None),
        ("1999-12-12T06:14:16Z", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("soon", None),
        ("2025-12-12T06:14:16Z" + " " * 10_000, None),
        (1_765_520_056_123_456_789, None),
    ],
)
def test_a_time_is_read_in_every_unit_and_as_text(written: object, milliseconds: int | None) -> None:
    assert task_of({}, created_at=written).created_at == milliseconds
