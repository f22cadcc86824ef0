"""Asks the simulator as a program with its keys would."""

from typing import Any

import httpx2
import jwt

from tests.simulator import KlingSimulator

GENERATIONS = "/v1/images/generations"


def bearer(sim: KlingSimulator, *, now: float | None = None, **changes: object) -> dict[str, str]:
    at = int(sim.now_ms() / 1000 if now is None else now)
    claims: dict[str, object] = {"iss": sim.access_key, "exp": at + 1800, "nbf": at - 5}
    token = jwt.encode({**claims, **changes}, sim.secret_key, algorithm="HS256")
    return {"Authorization": f"Bearer {token}"}


def get(sim: KlingSimulator, http: httpx2.Client, path: str, **params: Any) -> httpx2.Response:
    return http.get(sim.base_url + path, headers=bearer(sim), params=params or None)


def post(sim: KlingSimulator, http: httpx2.Client, path: str, body: object) -> httpx2.Response:
    return http.post(sim.base_url + path, headers=bearer(sim), json=body)


def code(response: httpx2.Response) -> tuple[int, int]:
    return response.status_code, response.json()["code"]


def image_url(sim: KlingSimulator, http: httpx2.Client, task_id: str, field: str = "url") -> str:
    data = get(sim, http, f"{GENERATIONS}/{task_id}").json()["data"]
    return str(data["task_result"]["images"][0][field])
