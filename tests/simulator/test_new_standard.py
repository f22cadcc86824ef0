"""`/tasks` and `/solutions` of the simulated account."""

from typing import Any

import httpx2

from tests.harness.simulator_client import bearer, code, get
from tests.simulator import KlingSimulator


def test_tasks_of_all_families_are_shown_in_the_new_standard_to_api_keys_only(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    image = sim.create_task(status="succeed", external_task_id="mine", created_at=sim.now_ms() - 2000)
    video = sim.create_task(family="videos/text2video", created_at=sim.now_ms() - 1000)
    key = {"Authorization": f"Bearer {sim.api_key}"}
    url = f"{sim.base_url}/tasks"
    refused = http.get(url, headers=bearer(sim), params={"task_ids": image})
    named = http.get(url, headers=key, params={"task_ids": f"{image},404"}).json()["data"]
    first = http.post(url, headers=key, json={"limit": 1}).json()["data"]
    second = http.post(url, headers=key, json={"limit": 1, "cursor": first["next_cursor"]}).json()["data"]

    assert code(refused) == (401, 1002)
    assert [(task["id"], task["status"], task["external_id"]) for task in named] == [
        (image, "succeeded", "mine")
    ]
    assert http.get(named[0]["outputs"][0]["url"]).content == sim.expected_bytes(image, "0")
    assert [first["result"][0]["id"], second["result"][0]["id"]] == [video, image]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert code(http.get(url, headers=key)) == (400, 1201)


def test_tasks_and_solutions_are_as_strict_as_documented(sim: KlingSimulator, http: httpx2.Client) -> None:
    """One kind of ids, 1 to 20 of them; a limit of at most 500; no AK/SK, which is complained of."""
    key = {"Authorization": f"Bearer {sim.api_key}"}
    for path in ("/tasks", "/solutions"):
        url = sim.base_url + path
        refused = [
            http.get(url, headers=key),
            http.get(url, headers=key, params={"task_ids": ",".join("123456789012345678901")}),
            http.get(url, headers=key, params={"task_ids": "1", "external_task_ids": "2"}),
            http.post(url, headers=key, json={"limit": 501}),
            http.post(url, headers=key, json={"cursor": "made up"}),
        ]
        assert [code(answer) for answer in refused] == [(400, 1201)] * 5
        assert http.get(url, headers=key, params={"task_ids": "1,2"}).json()["data"] == []
        assert code(http.get(url, headers=bearer(sim), params={"task_ids": "1"})) == (401, 1002)

    assert sim.complaints == ["AK/SK on /tasks", "AK/SK on /solutions"]


def test_tasks_show_each_standard_at_its_own_path(sim: KlingSimulator, http: httpx2.Client) -> None:
    families = ("images/generations", "tasks/video", "solutions/virtual_try_on")
    ids = [sim.create_task(family=family, status="succeed") for family in families]
    key = {"Authorization": f"Bearer {sim.api_key}"}

    def shown(path: str) -> set[str]:
        answer = http.post(sim.base_url + path, headers=key, json={}).json()["data"]["result"]
        return {task.get("id") or task["task_id"] for task in answer}

    assert (shown("/tasks"), shown("/solutions")) == (set(ids[:2]), {ids[2]})
    sim.switches.tasks_show, sim.switches.solution_shape = frozenset({"solution"}), "images"
    assert (shown("/tasks"), shown("/solutions")) == ({ids[2]}, {ids[2]})
    assert code(get(sim, http, f"/v1/tasks/video/{ids[1]}")) == (404, 1203)
    sim.complaints.clear()  # of the path that is none


def test_a_window_of_tasks_has_the_order_the_bounds_and_the_cursor_that_the_switches_say(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    start = sim.now_ms() - 100_000
    ids = [sim.create_task(family="tasks/video", created_at=start + number * 1000) for number in range(6)]
    key = {"Authorization": f"Bearer {sim.api_key}"}

    def page(**more: Any) -> httpx2.Response:
        body = {"start_time": str(start), "end_time": str(start + 5000), "limit": 2, **more}
        return http.post(f"{sim.base_url}/tasks", headers=key, json=body)

    def walk() -> list[str]:
        found, cursor = [], ""
        while True:
            data = page(cursor=cursor).json()["data"]
            found += [task["id"] for task in data.get("result", [])]
            cursor = data.get("next_cursor")
            if not data["has_more"]:
                return found

    assert walk() == ids[::-1]
    sim.switches.list_order = "shuffled"
    assert sorted(walk()) == ids
    sim.switches.window_bounds = (False, False)
    assert sorted(walk()) == ids[1:-1]
    sim.switches.window_time = "updated_at"
    for task_id in ids:
        sim.succeed(task_id)
    assert walk() == []
    sim.switches.window_time, sim.switches.cursor_pages_max = "created_at", 0
    assert code(page(cursor=page().json()["data"]["next_cursor"])) == (400, 1201)
