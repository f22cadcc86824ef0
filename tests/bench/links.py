"""Links: redirects a second against a bare endpoint, and the bytes of files against the store itself.

The line before the last has one slow reader of 2 GB beside 200 quick ones: the memory that they take, and the latency
of callbacks meanwhile. The same readers at the store itself show what the machine alone adds. The last line has the
memory with fewer readers, and with a smaller file.
"""

import contextlib
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from archiver.store import S3Store
from tests.bench.processes import daemon_environment, free_port, python
from tests.harness.ledgers import Desk
from tests.harness.links import PREFIX, PUBLIC_URL, SECRET, link_of, put, record_stored
from tests.s3_servers.rclone import RcloneServer
from tests.s3_servers.server import S3Server, running

ROUNDS = 3
LINKS = 200
IMAGE_BYTES = 1_500_000
FILM_BYTES = 256_000_000
LONG_FILM_BYTES = 2_000_000_000
QUICK_READERS, QUICK_PAUSE_SECONDS = 200, 5
"""Each takes an image as fast as it can, every 5 s: 60 MB/s together."""


def measure(folder: Path, *, seconds: float) -> list[str]:
    """Lines of figures."""
    with running(RcloneServer) as server:
        bucket = server.create_bucket()
        paths = _fill(folder, server, bucket)
        return [
            *_redirects(folder, server, bucket, paths, seconds=seconds),
            *_streams(folder, server, bucket, seconds=seconds),
            _memory(folder, server, bucket, seconds=seconds),
        ]


def _fill(folder: Path, server: S3Server, bucket: str) -> list[str]:
    """Archived tasks of one file each; the paths of the images' links."""
    store = server.store(bucket)
    files = {f"image-{number}": (b"an image", "png") for number in range(LINKS)}
    files |= {"image": (bytes(IMAGE_BYTES), "png"), "film": (bytes(FILM_BYTES), "mp4")}
    files["long-film"] = (bytes(LONG_FILM_BYTES), "mp4")
    with contextlib.closing(Desk(folder)) as desk:
        for task_id, (content, extension) in files.items():
            put(store, record_stored(desk, content, task_id, extension=extension).key, content)
    return [link_of(f"image-{number}", extension="png") for number in range(LINKS)]


def _environment(folder: Path, server: S3Server, bucket: str, *, port: int, mode: str) -> dict[str, str]:
    environ = daemon_environment(folder, port=port) | server.environment(bucket)
    return environ | {
        "KLING_S3_PREFIX": PREFIX,
        "KLING_LINK_SECRET": SECRET,
        "KLING_LINK_MODE": mode,
        "KLING_PUBLIC_URL": PUBLIC_URL,
    }


def _redirects(folder: Path, server: S3Server, bucket: str, paths: list[str], *, seconds: float) -> list[str]:
    """Rounds alternate, so that noise hits both sides."""
    log, listed = folder / "links.log", folder / "paths"
    listed.write_text("\n".join(paths))
    bare_port, port = free_port(), free_port()
    environ = _environment(folder, server, bucket, port=port, mode="redirect")
    with (
        python(["-m", "tests.bench.bare_redirect", str(bare_port)], port=bare_port, log=log),
        python(["-m", "receiver"], port=port, log=log, environ=environ),
    ):
        pairs = [
            [_redirects_per_second(at, listed, seconds=seconds) for at in (bare_port, port)]
            for _ in range(ROUNDS)
        ]
    ratio = statistics.median(ours / bare for bare, ours in pairs)
    bare, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
    return [f"redirects/s, {LINKS} links  {ours:8.0f}  baseline {bare:8.0f}  ratio {ratio:.2f}  (≥ 0.40)"]


def _redirects_per_second(port: int, listed: Path, *, seconds: float) -> float:
    figures = _json(
        *("load", "--port", str(port), "--links", str(listed)),
        *("--seconds", str(seconds), "--connections", "64"),
    )
    if set(figures["statuses"]) != {"302"}:
        raise RuntimeError(f"not every answer was 302: {figures['statuses']}")
    return float(figures["per_second"])


def _streams(folder: Path, server: S3Server, bucket: str, *, seconds: float) -> list[str]:
    log, port = folder / "links.log", free_port()
    environ = _environment(folder, server, bucket, port=port, mode="stream")
    store = server.store(bucket)
    lines = []
    with python(["-m", "receiver"], port=port, log=log, environ=environ) as daemon:
        url = f"http://127.0.0.1:{port}"
        idle = _resident_mb(daemon.pid, "VmRSS")
        film, image, long_film = (link_of(name) for name in ("film", "image", "long-film"))
        key = store.presign(_key_of(store, "film"), seconds=3600).url
        for count in (1, 32):
            pairs = [
                [_mb_per_second(at, count=count, seconds=seconds) for at in (key, url + film)]
                for _ in range(ROUNDS)
            ]
            ratio = statistics.median(ours / direct for direct, ours in pairs)
            direct, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
            lines.append(
                f"stream MB/s, {count:2} readers  {ours:8.0f}  direct {direct:8.0f}  ratio {ratio:.2f}  (≥ 0.70)"
            )
        alone = _door(port, seconds=seconds, first_id=0)
        stored = [store.presign(_key_of(store, name), seconds=3600).url for name in ("image", "long-film")]
        direct = _door_beside(port, *stored, seconds=seconds, first_id=10**12)
        beside = _door_beside(port, url + image, url + long_film, seconds=seconds, first_id=2 * 10**12)
        peak = _resident_mb(daemon.pid, "VmHWM")
        lines.append(
            f"a slow reader of 2 GB beside {QUICK_READERS} quick ones  {peak - idle:.0f} MB over {idle:.0f} MB idle  "
            f"callbacks {_latency(beside)}, while they read from the store {_latency(direct)}, alone {_latency(alone)}"
        )
    return lines


def _memory(folder: Path, server: S3Server, bucket: str, *, seconds: float) -> str:
    """Of a fresh daemon each time: it should not depend on the size of the slow reader's file."""
    cases = [(50, "film"), (QUICK_READERS, "film"), (QUICK_READERS, "long-film")]
    grown = [_grown_mb(folder, server, bucket, count, slow, seconds=seconds) for count, slow in cases]
    figures = "  ".join(
        f"{count} readers, slow file of {FILM_BYTES if slow == 'film' else LONG_FILM_BYTES} bytes "
        f"{grown_mb:.0f} MB ({grown_mb / count * 1000:.0f} KB a reader)"
        for (count, slow), grown_mb in zip(cases, grown, strict=True)
    )
    return f"stream, memory over idle  {figures}"


def _grown_mb(folder: Path, server: S3Server, bucket: str, count: int, slow: str, *, seconds: float) -> float:
    port = free_port()
    environ = _environment(folder, server, bucket, port=port, mode="stream")
    with python(["-m", "receiver"], port=port, log=folder / "links.log", environ=environ) as daemon:
        idle = _resident_mb(daemon.pid, "VmRSS")
        url = f"http://127.0.0.1:{port}"
        _json(
            *("reader", url + link_of("image"), "--slow", url + link_of(slow), "--count", str(count)),
            *("--pause", str(QUICK_PAUSE_SECONDS), "--seconds", str(2 * seconds)),
        )
        return _resident_mb(daemon.pid, "VmHWM") - idle


def _latency(figures: dict[str, Any]) -> str:
    return f"p50 {figures['p50_ms']:.1f} ms p99 {figures['p99_ms']:.1f} ms"


def _door_beside(
    port: int, image_url: str, film_url: str, *, seconds: float, first_id: int
) -> dict[str, Any]:
    """Callbacks, while the readers read for longer than they are measured."""
    began = time.monotonic()
    reading = subprocess.Popen(
        [
            *_command("reader", image_url, "--slow", film_url, "--count", str(QUICK_READERS)),
            *("--pause", str(QUICK_PAUSE_SECONDS), "--seconds", str(3 * seconds + 4)),
        ],
        stdout=subprocess.DEVNULL,
    )
    figures = _door(port, seconds=seconds, first_id=first_id)
    if reading.wait(120) or time.monotonic() - began < seconds:
        raise RuntimeError("the readers have failed")
    return figures


def _key_of(store: S3Store, task_id: str) -> str:
    return next(key for key in store.list(PREFIX) if f"/{task_id}/" in key)


def _mb_per_second(url: str, *, count: int, seconds: float) -> float:
    return float(_json("reader", url, "--count", str(count), "--seconds", str(seconds))["mb_per_second"])


def _door(port: int, *, seconds: float, first_id: int) -> dict[str, Any]:
    path = "/callbacks/bench-callback-token/images/generations"
    return _json(
        *("load", "--port", str(port), "--path", path, "--seconds", str(2 * seconds), "--rate", "100"),
        *("--first-id", str(first_id), "--connections", "16"),
    )


def _command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"tests.bench.{module}", *arguments]


def _json(module: str, *arguments: str) -> dict[str, Any]:
    answer = subprocess.run(_command(module, *arguments), check=True, capture_output=True, timeout=180)
    figures: dict[str, Any] = json.loads(answer.stdout)
    return figures


def _resident_mb(pid: int, field: str) -> float:
    (line,) = (
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(field)
    )
    return int(line.split()[1]) / 1000
