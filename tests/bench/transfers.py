"""Images archived a second by the engine, against a bare loop of the same HTTP client and boto3 on as many threads.

Both sides run in this process, alternate, fetch from the same CDN and put into the same kind of S3 server. The bare
loop fetches into memory and puts: no ledger, no checks, no manifest. Start and end are not measured, only the images
between the first tenth and the last.

Each round is compared with the other side's round right before it, and the ratio is the median of these. The machine's
speed may change by half within minutes, so the best round of each side would compare two lucky moments.
"""

import concurrent.futures
import contextlib
import dataclasses
import gc
import os
import resource
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpcore2
from botocore.config import Config

from archiver import log
from archiver.composition.build import build_engine
from archiver.config.settings import Settings
from archiver.ledger import Ledger, unix_ms
from archiver.metrics import Metrics
from archiver.model import Asset, DiscoveredBy, Role, Status, Task
from tests.bench.processes import daemon_environment, free_port, python
from tests.s3_servers.rclone import RcloneInMemory
from tests.s3_servers.server import S3Server, running

IMAGE_BYTES = 1_500_000
IMAGES_PER_TASK = 4
THREADS = 16
ROUNDS_NEAR = 7
ROUNDS_FAR = 3
"""Fewer suffice: waiting is steadier than computing."""
DISTANCE_MS = 100
FAR_SHARE = 2
"""Divides the images of a round with distance, which takes as long as a full round without."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """One round of one side."""

    images_per_second: float
    cpu_ms_per_image: float


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the CDN and the S3 server are, the same for both sides."""

    image_url: str
    server: S3Server
    endpoint_url: str


def measure(folder: Path, *, images: int) -> list[str]:
    """Lines of figures: with CDN and store on this machine, and with their usual distance.

    On this machine the CPU is the limit, which the servers share with both sides; with distance the threads are.
    """
    log.configure(format="json", level="info", stream=(folder / "engine.log").open("w"))
    near, far = folder / "near", folder / "far"
    here = _figures(near, images=images, rounds=ROUNDS_NEAR, distance_ms=0, where="next door")
    where = f"{DISTANCE_MS} ms away"
    there = _figures(far, images=images // FAR_SHARE, rounds=ROUNDS_FAR, distance_ms=DISTANCE_MS, where=where)
    return [*here, there[0]]


def _figures(folder: Path, *, images: int, rounds: int, distance_ms: int, where: str) -> list[str]:
    folder.mkdir()
    bare, engine = list[Figure](), list[Figure]()
    for number in range(rounds):
        # Fresh servers each time: one that holds gigabytes is slower for both sides.
        with a_place(folder, distance_ms=distance_ms) as place:
            bare.append(_bare(place, images))
        with a_place(folder, distance_ms=distance_ms) as place:
            engine.append(archiving(place, folder / f"round-{number}", images))
    rate = compared(
        [figure.images_per_second for figure in engine], [figure.images_per_second for figure in bare]
    )
    cpu = compared(
        [figure.cpu_ms_per_image for figure in engine], [figure.cpu_ms_per_image for figure in bare]
    )
    return [f"images/s, {where:<17}   {rate}  (≥ 0.80)", f"CPU ms per image              {cpu}"]


def compared(ours: Sequence[float], baseline: Sequence[float]) -> str:
    """The medians of both sides, and of the ratios round by round, with the lowest and the highest."""
    ratios = [mine / theirs for mine, theirs in zip(ours, baseline, strict=True)]
    medians = f"{statistics.median(ours):8.1f}  baseline {statistics.median(baseline):8.1f}"
    return f"{medians}  ratio {statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"


@contextlib.contextmanager
def a_place(folder: Path, *, distance_ms: int) -> Iterator[Place]:
    cdn_port = free_port()
    with (
        running(RcloneInMemory) as server,
        python(
            ["-m", "tests.bench.cdn", str(cdn_port), str(IMAGE_BYTES)],
            port=cdn_port,
            log=folder / "cdn.log",
        ),
        contextlib.ExitStack() as relays,
    ):
        ports = [cdn_port, server.port]
        if distance_ms:
            ports = [
                relays.enter_context(_relay(port, distance_ms, log=folder / "distance.log")) for port in ports
            ]
        yield Place(f"http://127.0.0.1:{ports[0]}/image.png", server, f"http://127.0.0.1:{ports[1]}")


@contextlib.contextmanager
def _relay(server_port: int, distance_ms: int, *, log: Path) -> Iterator[int]:
    port = free_port()
    arguments = ["-m", "tests.bench.distance", str(port), str(server_port), str(distance_ms)]
    with python(arguments, port=port, log=log):
        yield port


def _while_running(done: Callable[[], int], images: int) -> Figure:
    """Measure from the first tenth of `images` to the last; `done()` is how many are finished."""
    began, cpu, first = _when(done, images // 10)
    ended, cpu_then, last = _when(done, images - images // 10)
    seconds, count = ended - began, last - first
    return Figure(count / seconds, (cpu_then - cpu) / count * 1000)


def _when(done: Callable[[], int], count: int) -> tuple[float, float, int]:
    """Wait until `count` are finished; wall time, CPU time, and how many really are."""
    while (through := done()) < count:
        time.sleep(0.005)
    return time.perf_counter(), _cpu_seconds(), through


def _freeze_garbage() -> None:
    """As the daemon does when it starts to serve, after collecting the garbage of earlier rounds."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _bare(place: Place, images: int) -> Figure:
    bucket = place.server.create_bucket()
    config = Config(
        max_pool_connections=THREADS,
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
    )
    session = place.server.session()
    client = session.client("s3", endpoint_url=place.endpoint_url, config=config)
    with (
        httpcore2.ConnectionPool(max_connections=THREADS, max_keepalive_connections=THREADS) as pool,
        concurrent.futures.ThreadPoolExecutor(THREADS) as threads,
    ):
        through = list[int]()

        def transfer(number: int) -> None:
            try:
                body = pool.request("GET", place.image_url).content
                client.put_object(Bucket=bucket, Key=f"{uuid.uuid4()}.png", Body=body)
            finally:
                through.append(number)  # a failure is raised below by `list(results)`

        _freeze_garbage()
        results = threads.map(transfer, range(images))
        figure = _while_running(lambda: len(through), images)
        list(results)
        return figure


def archiving(place: Place, folder: Path, images: int, **more: str) -> Figure:
    """One round of the engine, with `more` settings."""
    folder.mkdir()
    settings = _settings(place, folder, **more)
    ledger = Ledger.open(settings.ledger_url, daemon=True)
    stop, metrics = threading.Event(), Metrics()
    engine = build_engine(settings, ledger, metrics, stop=stop, on_death=stop.set)
    archived = metrics.assets_archived_total.labels(family="images/generations")
    tasks = images // IMAGES_PER_TASK
    ledger.records.record(
        [_task(number, place.image_url) for number in range(tasks)],
        account="default",
        discovered_by=DiscoveredBy.CALLBACK,
        rand=0.5,
    )

    def done() -> int:
        # A counter, because queries to the ledger would slow the engine that is measured.
        return int(archived._value.get())  # noqa: SLF001 -- the library has no other way to read one

    _freeze_garbage()
    engine.start()
    figure = _while_running(done, tasks * IMAGES_PER_TASK)
    _when(done, tasks * IMAGES_PER_TASK)
    engine.stop(seconds=5)
    engine.close()
    ledger.close()
    return figure


def _settings(place: Place, folder: Path, **more: str) -> Settings:
    bucket = place.server.create_bucket()
    environ = daemon_environment(folder, port=free_port()) | place.server.environment(bucket)
    origin = place.image_url.rsplit("/", 1)[0]
    os.environ.update({name: value for name, value in environ.items() if name.startswith("AWS_")})
    environ |= {"KLING_ASSET_HOSTS": origin, "KLING_TRANSFER_CONCURRENCY": str(THREADS)}
    environ["KLING_S3_ENDPOINT_URL"] = place.endpoint_url
    return Settings.load(environ | more)


def _task(number: int, url: str) -> Task:
    now = unix_ms()
    assets = tuple(
        Asset(str(place), url, Role.IMAGE, place, watermarked=False) for place in range(IMAGES_PER_TASK)
    )
    return Task(
        task_id=f"{number:018d}",
        family="images/generations",
        status=Status.SUCCEEDED,
        message="",
        created_at=now,
        updated_at=now,
        external_task_id=None,
        assets=assets,
        document={"task_id": f"{number:018d}"},
    )
