"""What links, forwarding and gateway cost who does not use them: the door and the archive with all of them switched on,
beside the same without. Rounds alternate, and the ratio is the median of pairs, as in `transfers`.

Of the archive each task is also told to an application, which answers at once.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from archiver import log
from tests.bench import door, transfers
from tests.bench.processes import daemon_environment, free_port, python

ROUNDS = 5
RATIO_MIN = 0.95
CALLBACKS_PATH = "/callbacks/bench-callback-token/images/generations"


def measure(folder: Path, *, seconds: float, images: int) -> list[str]:
    """Lines of figures."""
    with _application(folder) as application:
        everything = {
            "KLING_API_KEY": "bench-api-key-0123456789",
            "KLING_PUBLIC_URL": "https://kling.example",
            "KLING_LINK_SECRET": "bench-link-secret-0123456789-0123456789",
            "KLING_GATEWAY": "on",
            "KLING_GATEWAY_KEY": "shop:bench-gateway-key-0123456789",
            "KLING_FORWARD_URL": application,
        }
        return [
            _door(folder, everything, seconds=seconds),
            _archive(folder, everything, images=images),
        ]


@contextlib.contextmanager
def _application(folder: Path) -> Iterator[str]:
    port = free_port()
    with python(["-m", "tests.bench.bare", str(port)], port=port, log=folder / "application.log"):
        yield f"http://127.0.0.1:{port}/told"


def _door(folder: Path, everything: dict[str, str], *, seconds: float) -> str:
    with _daemon(folder / "without", {}) as without, _daemon(folder / "with", everything) as with_all:
        rates: dict[int, list[float]] = {without: [], with_all: []}
        for number in range(ROUNDS):
            for port, measured in rates.items():
                figures = door.load(port, CALLBACKS_PATH, seconds=seconds, first_id=number * 10**9)
                measured.append(figures["per_second"])
    compared = transfers.compared(rates[with_all], rates[without])
    return f"callbacks/s, with links, forwarding and gateway  {compared}  (≥ {RATIO_MIN:.2f})"


@contextlib.contextmanager
def _daemon(folder: Path, more: dict[str, str]) -> Iterator[int]:
    folder.mkdir()
    port = free_port()
    environ = daemon_environment(folder, port=port, KLING_SPOOL_DIR=str(folder / "spool"), **more)
    with python(["-m", "receiver"], port=port, log=folder / "daemon.log", environ=environ):
        yield port


def _archive(folder: Path, everything: dict[str, str], *, images: int) -> str:
    log.configure(format="json", level="info", stream=(folder / "engine.log").open("w"))
    rates: dict[str, list[float]] = {"without": [], "with": []}
    for number in range(ROUNDS):
        for name, more in (("without", {}), ("with", everything)):
            with transfers.a_place(folder, distance_ms=0) as place:
                figure = transfers.archiving(place, folder / f"{name}-{number}", images, **more)
            rates[name].append(figure.images_per_second)
    compared = transfers.compared(rates["with"], rates["without"])
    return f"images/s, with links, forwarding and gateway     {compared}  (≥ {RATIO_MIN:.2f})"
