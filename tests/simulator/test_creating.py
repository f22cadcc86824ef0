"""The simulated account's create call: what it refuses, its slots, and creates that fail although they happened."""

import base64
from collections.abc import Iterator

import httpx2
import pytest

from tests.harness.simulator_client import code, get, post
from tests.simulator import KlingSimulator, Switches, faults
from tests.simulator.media import ImageFormat, media

GENERATIONS = "/v1/images/generations"
EXPAND = "/v1/images/editing/expand"
URL = "https://example.com/dog.png"


@pytest.fixture
def sim() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(trust_env=False, timeout=60.0) as client:
        yield client


def image(size: tuple[int, int], kind: ImageFormat = "png") -> str:
    return base64.b64encode(media("x", kind, size)).decode()


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"model_name": "kling-v9"}, "model_name"),
        ({"prompt": ""}, "prompt"),
        ({"image": URL, "negative_prompt": "blur"}, "negative_prompt"),
        ({"image": f"data:image/png;base64,{image((300, 300))}"}, "image"),
        ({"image": image((299, 300))}, "image"),
        ({"image": image((300, 800))}, "image"),
        ({"image": image((300, 300), "webp")}, "image"),
        ({"aspect_ratio": "21:9"}, "aspect_ratio"),
        ({"resolution": "2k"}, "resolution"),
        ({"model_name": "kling-v2-new"}, "model_name"),
        ({"model_name": "kling-v1-5", "image": URL}, "image_reference"),
        ({"model_name": "kling-v3", "image": URL, "image_reference": "face"}, "image_reference"),
    ],
)
def test_a_generation_outside_the_pages_is_refused_by_name(
    sim: KlingSimulator, http: httpx2.Client, parameters: dict[str, object], named: str
) -> None:
    refused = post(sim, http, GENERATIONS, {"prompt": "x"} | parameters)

    assert code(refused) == (400, 1201)
    assert named in refused.json()["message"]
    assert sim.task_ids() == []


@pytest.mark.parametrize("picture", [URL, image((300, 750)), image((400, 300), "jpeg")])
def test_an_image_within_the_limits_is_taken(sim: KlingSimulator, http: httpx2.Client, picture: str) -> None:
    assert code(post(sim, http, GENERATIONS, {"prompt": "x", "image": picture})) == (200, 0)


def test_an_expansion_beyond_three_times_the_area_is_refused(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    sides = {"up_expansion_ratio": 0.5, "left_expansion_ratio": 0.25, "right_expansion_ratio": 0.25}

    assert code(post(sim, http, EXPAND, sides | {"image": URL, "down_expansion_ratio": 0.5})) == (200, 0)
    assert code(post(sim, http, EXPAND, sides | {"image": URL, "bottom_expansion_ratio": 0.6})) == (400, 1201)
    assert code(post(sim, http, EXPAND, sides | {"image": URL})) == (400, 1201)


def test_tasks_take_slots_until_they_end_and_an_image_task_as_many_as_images(http: httpx2.Client) -> None:
    with KlingSimulator(switches=Switches(slots_max=5)) as sim:
        first = post(sim, http, GENERATIONS, {"prompt": "x", "n": 4}).json()["data"]["task_id"]
        full = post(sim, http, GENERATIONS, {"prompt": "x", "n": 2})
        video = post(sim, http, "/v1/videos/text2video", {"n": 3})
        sim.fail(first)
        room = post(sim, http, GENERATIONS, {"prompt": "x", "n": 4})

    assert [code(full), code(video), code(room)] == [(429, 1303), (200, 0), (200, 0)]


@pytest.mark.parametrize(
    ("fault", "status"), [(faults.server_error(), 500), (faults.Html(502), 502), (faults.Empty(), 200)]
)
def test_a_create_can_happen_and_be_answered_as_if_it_had_not(
    sim: KlingSimulator, http: httpx2.Client, fault: faults.Fault, status: int
) -> None:
    sim.fault("create", faults.Happened(fault), times=1)
    answer = post(sim, http, GENERATIONS, {"prompt": "x", "external_task_id": "mine"})

    assert answer.status_code == status
    assert code(get(sim, http, f"{GENERATIONS}/mine")) == (200, 0)


def test_a_create_can_be_cut_off_before_it_happened(sim: KlingSimulator, http: httpx2.Client) -> None:
    for reset in (False, True):
        sim.fault("create", faults.Drop(reset=reset), times=1)
        with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
            post(sim, http, GENERATIONS, {"prompt": "x"})

    assert sim.task_ids() == []
    assert sim.requests["create"] == 2
