"""Callbacks made durable a second, by the real daemon (its log on, its API away), against a bare endpoint: by a whole
daemon on SQLite, and by a door on PostgreSQL, whose server is as durable as it comes.
"""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.processes import daemon_environment, free_port, python
from tests.postgres import DURABLE, running_postgres

ROUNDS = 3
STEADY_PER_SECOND = 500
P99_MS_MAX = 50


@dataclasses.dataclass(frozen=True)
class Door:
    """A process that takes callbacks, on one kind of ledger."""

    ledger: str
    arguments: Sequence[str]
    ratio_min: float


WHOLE = Door("SQLite", ("-m", "receiver"), 0.40)
DOOR = Door("PostgreSQL", ("-m", "receiver", "--edge-only"), 0.35)


def measure(folder: Path, *, seconds: float) -> list[str]:
    """Lines of figures."""
    lines = _measure(WHOLE, f"sqlite:///{folder}/ledger.db", folder, seconds=seconds)
    with running_postgres(settings=DURABLE) as server:
        return lines + _measure(DOOR, server.url(server.create_database()), folder, seconds=seconds)


def _measure(door: Door, ledger_url: str, folder: Path, *, seconds: float) -> list[str]:
    """Rounds alternate, so that noise hits both sides."""
    bare_port, door_port = free_port(), free_port()
    log = folder / "door.log"
    bare: list[dict[str, Any]] = []
    durable: list[dict[str, Any]] = []
    environ = daemon_environment(folder, port=door_port, KLING_LEDGER_URL=ledger_url)
    path = "/callbacks/bench-callback-token/images/generations"
    with (
        python(["-m", "tests.bench.bare", str(bare_port)], port=bare_port, log=log),
        python(door.arguments, port=door_port, log=log, environ=environ),
    ):
        for number in range(ROUNDS):
            bare.append(load(bare_port, path, seconds=seconds, first_id=0))
            durable.append(load(door_port, path, seconds=seconds, first_id=number * 10**9))
        steady = load(
            door_port, path, seconds=2 * seconds, rate=STEADY_PER_SECOND, first_id=10**12, connections=32
        )
    baseline, ours = _best(bare), _best(durable)
    rate = f"callbacks/s, 256 connections, {door.ledger}  {ours:8.0f}  baseline {baseline:8.0f}"
    latency = f"callbacks, steady {STEADY_PER_SECOND}/s, {door.ledger}"
    return [
        f"{rate}  ratio {ours / baseline:.2f}  (≥ {door.ratio_min:.2f})",
        f"{latency}  p50 {steady['p50_ms']:.1f} ms  p99 {steady['p99_ms']:.1f} ms  (≤ {P99_MS_MAX})",
    ]


def _best(rounds: list[dict[str, Any]]) -> float:
    return float(max(figures["per_second"] for figures in rounds))


def load(
    port: int, path: str, *, seconds: float, first_id: int, rate: float = 0, connections: int = 256
) -> dict[str, Any]:
    """Send callbacks, each of which must be answered 200."""
    command = [sys.executable, "-m", "tests.bench.load", "--port", str(port), "--path", path]
    command += ["--seconds", str(seconds), "--rate", str(rate), "--first-id", str(first_id)]
    command += ["--connections", str(connections)]
    answer = subprocess.run(command, check=True, capture_output=True, timeout=seconds * 4 + 60)
    figures: dict[str, Any] = json.loads(answer.stdout)
    if set(figures["statuses"]) != {"200"}:
        raise RuntimeError(f"not every answer was 200: {figures['statuses']}")
    return figures
