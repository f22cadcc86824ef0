"""What the gateway adds, measured with the real daemon on SQLite, against Kling itself and against a bare reverse
proxy.

1. Latency with 64 clients at a steady rate, with the gateway minus without: a create of 1 KB, a query of a task that
   the ledger has not seen and must record first, and the same queries again.
2. Requests a second that are only relayed, as fast as they come, ÷ the proxy's.
3. Peak memory while 8 clients create with 100 MiB each, over idle.
4. Callbacks at a steady rate: alone, while 64 clients poll once a second, and while they poll as fast as answers come.
"""

import concurrent.futures
import contextlib
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.memory import resident
from tests.bench.processes import daemon_environment, free_port, python

CLIENTS = 64
ROUNDS = 3
STEADY_PER_SECOND = 50
RATIO_MIN = 0.6
P50_MS_MAX, P99_MS_MAX = 5, 20
LARGE_CLIENTS = 8
LARGE_BYTES = 100 * 1024 * 1024 - 1024
OVER_IDLE_MB_MAX = 250
FAMILY_PATH, OTHER_PATH = "/v1/images/generations", "/account/costs"
API_KEY = "bench-api-key-0123456789"
CALLBACKS_PATH = "/callbacks/bench-callback-token/images/generations"
CALLBACKS_PER_SECOND = 100


def measure(folder: Path, *, seconds: float) -> list[str]:
    """Lines of figures."""
    kling, proxy, gateway = free_port(), free_port(), free_port()
    log = folder / "gateway.log"
    environ = daemon_environment(
        folder,
        port=gateway,
        KLING_BASE_URL=f"http://127.0.0.1:{kling}",
        KLING_API_KEY=API_KEY,
        KLING_GATEWAY="on",
        KLING_PUBLIC_URL=f"http://127.0.0.1:{gateway}",
        KLING_LINK_SECRET="bench-link-secret-0123456789-0123456789",
        KLING_SPOOL_DIR=str(folder / "spool"),
    )
    with (
        python(["-m", "tests.bench.kling", str(kling)], port=kling, log=log),
        python(["-m", "tests.bench.proxy", str(proxy), f"http://127.0.0.1:{kling}"], port=proxy, log=log),
        python(["-m", "receiver"], port=gateway, log=log, environ=environ) as daemon,
    ):
        idle = resident(daemon.pid, "VmRSS")
        peak = _peak_of_large_creates(daemon.pid, gateway)
        memory = f"peak RSS {peak:.0f} MB  idle {idle:.0f} MB  over idle {peak - idle:.0f} MB  (≤ {OVER_IDLE_MB_MAX})"
        lines = [f"gateway, {LARGE_CLIENTS} creates of 100 MiB at once  {memory}"]
        lines += list(_added(kling, gateway, seconds=seconds))
        lines.append(_ratio(proxy, gateway, seconds=seconds))
        lines.append(_door(gateway, seconds=seconds))
    return lines


def _added(kling: int, gateway: int, *, seconds: float) -> Iterator[str]:
    for what, kind in (("create", "create"), ("first query of a task", "query"), ("query", "query")):
        alone, through = (
            _load(port, FAMILY_PATH, kind, seconds=2 * seconds, rate=STEADY_PER_SECOND)
            for port in (kling, gateway)
        )
        p50, p99 = (through[name] - alone[name] for name in ("p50_ms", "p99_ms"))
        yield (
            f"gateway adds to a {what}, {CLIENTS} clients, {STEADY_PER_SECOND}/s  p50 {p50:.1f} ms (≤ {P50_MS_MAX})  "
            f"p99 {p99:.1f} ms (≤ {P99_MS_MAX})"
        )


def _ratio(proxy: int, gateway: int, *, seconds: float) -> str:
    """Rounds alternate, so that noise hits both sides."""
    bare: list[float] = []
    ours: list[float] = []
    for _ in range(ROUNDS):
        bare.append(_load(proxy, OTHER_PATH, "query", seconds=seconds)["per_second"])
        ours.append(_load(gateway, OTHER_PATH, "query", seconds=seconds)["per_second"])
    baseline, rate = max(bare), max(ours)
    figures = f"{rate:8.0f}  baseline {baseline:8.0f}  ratio {rate / baseline:.2f}  (≥ {RATIO_MIN:.2f})"
    return f"gateway, relayed requests/s, {CLIENTS} clients  {figures}"


def _door(gateway: int, *, seconds: float) -> str:
    """Of callbacks, while clients poll for longer than they are measured."""
    found = []
    for number, rate in enumerate((None, CLIENTS, 0)):
        with contextlib.ExitStack() as polling:
            if rate is not None:
                command = _command(gateway, FAMILY_PATH, "query", seconds=2 * seconds + 4, rate=rate)
                polling.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL))
            figures = _load(
                gateway,
                CALLBACKS_PATH,
                "callback",
                seconds=2 * seconds,
                rate=CALLBACKS_PER_SECOND,
                first_id=number * 10**9,
            )
        found.append(f"p50 {figures['p50_ms']:.1f} ms p99 {figures['p99_ms']:.1f} ms")
    alone, each_second, closed = found
    return (
        f"callbacks, {CALLBACKS_PER_SECOND}/s: alone {alone};  beside {CLIENTS} clients that poll once a second "
        f"{each_second};  as fast as they can {closed}"
    )


def _load(
    port: int, path: str, kind: str, *, seconds: float, rate: float = 0, first_id: int = 0
) -> dict[str, Any]:
    command = _command(port, path, kind, seconds=seconds, rate=rate, first_id=first_id)
    answer = subprocess.run(command, check=True, capture_output=True, timeout=seconds * 4 + 60)
    figures: dict[str, Any] = json.loads(answer.stdout)
    if set(figures["statuses"]) != {"200"}:
        raise RuntimeError(f"not every answer was 200: {figures['statuses']}")
    return figures


def _command(port: int, path: str, kind: str, *, seconds: float, rate: float, first_id: int = 0) -> list[str]:
    return [
        *(sys.executable, "-m", "tests.bench.load", "--port", str(port), "--path", path, "--kind", kind),
        *("--seconds", str(seconds), "--rate", str(rate), "--connections", str(CLIENTS)),
        *("--authorization", f"Bearer {API_KEY}", "--first-id", str(first_id)),
    ]


def _peak_of_large_creates(pid: int, gateway: int) -> float:
    with concurrent.futures.ThreadPoolExecutor(LARGE_CLIENTS) as clients:
        statuses = list(clients.map(_create_large, [gateway] * LARGE_CLIENTS))
    if statuses != [200] * LARGE_CLIENTS:
        raise RuntimeError(f"not every answer was 200: {statuses}")
    return resident(pid, "VmHWM")


def _create_large(gateway: int) -> int:
    begin, end = b'{"model_name":"kling-v2","prompt":"a cat","image":"', b'"}'
    connection = http.client.HTTPConnection("127.0.0.1", gateway, timeout=300)
    connection.putrequest("POST", FAMILY_PATH)
    connection.putheader("Authorization", f"Bearer {API_KEY}")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(LARGE_BYTES))
    connection.endheaders(begin)
    left = LARGE_BYTES - len(begin) - len(end)
    while left:
        piece = b"A" * min(left, 1 << 20)
        connection.send(piece)
        left -= len(piece)
    connection.send(end)
    status = connection.getresponse().status
    connection.close()
    return status
