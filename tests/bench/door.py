"""Callbacks made durable a second, by the real daemon (its log on, its API away), against a bare endpoint."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench.processes import daemon_environment, free_port, python

ROUNDS = 3
STEADY_PER_SECOND = 500


def measure(folder: Path, *, seconds: float) -> list[str]:
    """Lines of figures. Rounds alternate, so that noise hits both sides."""
    bare_port, door_port = free_port(), free_port()
    log = folder / "door.log"
    bare: list[dict[str, Any]] = []
    door: list[dict[str, Any]] = []
    environ = daemon_environment(folder, port=door_port)
    path = "/callbacks/bench-callback-token/images/generations"
    with (
        python(["-m", "tests.bench.bare", str(bare_port)], port=bare_port, log=log),
        python(["-m", "receiver"], port=door_port, log=log, environ=environ),
    ):
        for number in range(ROUNDS):
            bare.append(_load(bare_port, path, seconds=seconds, first_id=0))
            door.append(_load(door_port, path, seconds=seconds, first_id=number * 10**9))
        steady = _load(
            door_port, path, seconds=2 * seconds, rate=STEADY_PER_SECOND, first_id=10**12, connections=32
        )
    baseline, ours = _best(bare), _best(door)
    ratio = ours / baseline
    rate = f"callbacks/s, 256 connections  {ours:8.0f}  baseline {baseline:8.0f}  ratio {ratio:.2f}  (≥ 0.40)"
    p50, p99 = steady["p50_ms"], steady["p99_ms"]
    latency = f"callbacks, steady {STEADY_PER_SECOND}/s  p50 {p50:.1f} ms  p99 {p99:.1f} ms  (≤ 50)"
    return [rate, latency]


def _best(rounds: list[dict[str, Any]]) -> float:
    return float(max(figures["per_second"] for figures in rounds))


def _load(
    port: int, path: str, *, seconds: float, first_id: int, rate: float = 0, connections: int = 256
) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.load", "--port", str(port), "--path", path]
    command += ["--seconds", str(seconds), "--rate", str(rate), "--first-id", str(first_id)]
    command += ["--connections", str(connections)]
    answer = subprocess.run(command, check=True, capture_output=True, timeout=seconds * 4 + 60)
    figures: dict[str, Any] = json.loads(answer.stdout)
    if set(figures["statuses"]) != {"200"}:
        raise RuntimeError(f"not every answer was 200: {figures['statuses']}")
    return figures
