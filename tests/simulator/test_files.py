"""Result URLs and files of the simulated account: signed, expiring, whole, and broken on demand."""

import struct
import zlib
from typing import Any

import httpx2
import pytest

from tests.harness.simulator_client import GENERATIONS, get, image_url
from tests.simulator import KlingSimulator, faults


def test_a_signed_url_counts_byte_for_byte_and_until_it_expires(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    sim.switches.url_lifetime_seconds = 60
    task_id = sim.create_task(status="succeed")
    url = image_url(sim, http, task_id)
    fetched = [
        http.get(text).status_code for text in (url, url.replace("%3d", "%3D"), url.replace("%7E", "~"))
    ]
    altered = list(sim.complaints)
    sim.advance(60)

    assert fetched == [200, 403, 403]
    assert len(altered) == 2
    assert http.get(url).status_code == 403
    assert http.get(image_url(sim, http, task_id)).status_code == 200
    assert sim.complaints == altered


def test_queries_sign_freshly_unless_switched_off(sim: KlingSimulator, http: httpx2.Client) -> None:
    task_id = sim.create_task(status="succeed")
    fresh = {image_url(sim, http, task_id) for _ in range(3)}
    sim.switches.fresh_urls = False
    stable = {image_url(sim, http, task_id) for _ in range(3)}

    assert (len(fresh), len(stable)) == (3, 1)
    assert [http.get(url).status_code for url in fresh | stable] == [200] * 4


def test_revoked_urls_are_refused_until_the_task_is_queried_again(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    task_id = sim.create_task(status="succeed")
    url = image_url(sim, http, task_id)
    sim.revoke_urls(task_id)

    assert http.get(url).status_code == 403
    assert http.get(image_url(sim, http, task_id)).status_code == 200
    sim.purge_assets(task_id)
    assert http.get(image_url(sim, http, task_id)).status_code == 404
    assert sim.complaints == []


def test_a_watermark_is_a_second_file_and_expand_shows_it_in_lists_only(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    task_id = sim.create_task(watermark=True, status="succeed")
    marked = http.get(image_url(sim, http, task_id, "watermark_url")).content
    expand = "/v1/images/editing/expand"
    expanded = sim.create_task(family="images/editing/expand", watermark=True, status="succeed")
    single = get(sim, http, f"{expand}/{expanded}").json()["data"]["task_result"]["images"][0]
    row = get(sim, http, expand).json()["data"][0]["task_result"]["images"][0]

    assert marked == sim.expected_bytes(task_id, "0.watermark") != sim.expected_bytes(task_id, "0")
    assert sim.expected_names(task_id) == ["0.png", "0.watermark.png"]
    assert (set(single), set(row)) == ({"index", "url"}, {"index", "url", "watermark_url"})


def test_a_png_is_whole_and_of_the_size_asked_for(sim: KlingSimulator) -> None:
    task_id = sim.create_task(status="succeed", size=(704, 700))
    body = sim.expected_bytes(task_id, "0")
    chunks, at = [], 8
    while at < len(body):
        (length,) = struct.unpack_from(">I", body, at)
        kind, data = body[at + 4 : at + 8], body[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", body, at + 8 + length) == (zlib.crc32(kind + data),)
        chunks.append((kind, data))
        at += length + 12

    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    assert struct.unpack_from(">II", chunks[0][1]) == (704, 700)
    assert len(zlib.decompress(chunks[1][1])) == 700 * (704 * 3 + 1)


@pytest.mark.parametrize(
    ("family", "image_format", "name", "start", "end"),
    [
        ("images/generations", "jpeg", "0.jpg", b"\xff\xd8\xff\xe0", b"\xff\xd9"),
        ("images/generations", "webp", "0.webp", b"RIFF", b""),
        ("general/ai-multi-shot", "png", "0-3.png", b"\x89PNG", b"IEND\xaeB`\x82"),
        ("videos/text2video", None, "video-0.mp4", b"\0\0\0\x1cftypisom", b""),
        ("audio/text-to-audio", None, "audio-0.wav", b"RIFF", b""),
        ("audio/text-to-audio", None, "audio-0.mp3", b"\xff\xfb", b""),
        ("general/custom-voices", None, "voice-0.mp3", b"\xff\xfb", b""),
    ],
)
def test_every_family_serves_files_of_its_kind(
    sim: KlingSimulator,
    http: httpx2.Client,
    family: str,
    image_format: Any,
    name: str,
    start: bytes,
    end: bytes,
) -> None:
    task_id = sim.create_task(family=family, image_format=image_format, status="succeed")
    data = get(sim, http, f"/v1/{family}/{task_id}").json()["data"]
    rows = [row for array in data["task_result"].values() for row in array]
    urls = [str(value) for row in rows for value in row.values() if str(value).startswith(sim.origin)]
    bodies = [http.get(url).content for url in urls]

    assert sim.expected_bytes(task_id, name) in bodies
    assert sim.expected_bytes(task_id, name).startswith(start)
    assert sim.expected_bytes(task_id, name).endswith(end)


@pytest.mark.parametrize(("indexes", "stems"), [([3, 1], {"3", "1"}), ([2, 2], {"0", "1"}), ([None], {"0"})])
def test_odd_indexes_are_shown_and_files_are_named_by_place_when_ambiguous(
    sim: KlingSimulator, http: httpx2.Client, indexes: list[int | None], stems: set[str]
) -> None:
    task_id = sim.create_task(indexes=indexes, status="succeed")
    images = get(sim, http, f"{GENERATIONS}/{task_id}").json()["data"]["task_result"]["images"]

    assert [image.get("index") for image in images] == indexes
    assert {file.stem for file in sim.task(task_id).files} == stems


def test_cdn_faults_break_a_transfer_in_their_own_way(sim: KlingSimulator, http: httpx2.Client) -> None:
    task_id = sim.create_task(status="succeed")
    whole = sim.expected_bytes(task_id, "0")

    def fetch(fault: faults.Fault) -> httpx2.Response:
        sim.fault("cdn", fault, times=1)
        return http.get(sim.url(task_id, "0"))

    half = whole[: len(whole) // 2]
    assert fetch(faults.Truncate()).content == half
    assert fetch(faults.Truncate(with_length=True)).content == half
    assert fetch(faults.LyingLength(-10)).content == whole[:-10]
    with pytest.raises(httpx2.RemoteProtocolError):
        fetch(faults.LyingLength(10))
    assert fetch(faults.Html()).headers["Content-Type"] == "text/html"
    assert "Content-Type" not in fetch(faults.WrongType(None)).headers
    assert fetch(faults.Redirect("http://10.0.0.1/")).headers["Location"] == "http://10.0.0.1/"
    assert fetch(faults.Drip(piece_bytes=len(whole) // 3, pause_seconds=0.001)).content == whole
    assert fetch(faults.Raw(403)).status_code == 403
    assert http.get(sim.url(task_id, "0")).content == whole


def test_a_gateway_path_may_stand_before_everything_but_the_cdn(http: httpx2.Client) -> None:
    with KlingSimulator(prefix="/kling") as sim:
        task_id = sim.create_task(status="succeed")

        assert sim.base_url.endswith("/kling")
        assert http.get(image_url(sim, http, task_id)).status_code == 200
        assert (sim.requests["query"], sim.complaints) == (1, [])
