"""What links, forwarding and gateway cost an installation that does not use them: the door and the archive with all of
them switched on, against the same without. Rounds alternate, and the ratio is the median of pairs, as in `transfers`.

With the archive, each task also has a forward to an application that answers at once, and then to one that takes
connections and never answers. On a busy machine the processor time is the steadier figure.
"""

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from archiver import log
from tests.bench import door, transfers
from tests.bench.processes import daemon_environment, free_port, python

ROUNDS = 5
RATIO_MIN = 0.95
CALLBACKS_PATH = "/callbacks/bench-callback-token/images/generations"


def measure(folder: Path, *, seconds: float, images: int) -> list[str]:
    """Lines of figures."""
    with _application(folder) as application, _hanging_application() as hanging:
        everything = {
            "KLING_API_KEY": "bench-api-key-0123456789",
            "KLING_PUBLIC_URL": "https://kling.example",
            "KLING_LINK_SECRET": "bench-link-secret-0123456789-0123456789",
            "KLING_GATEWAY": "on",
            "KLING_GATEWAY_KEY": "shop:bench-gateway-key-0123456789",
            "KLING_FORWARD_URL": application,
        }
        return [
            *_door(folder, everything, seconds=seconds),
            *_archive(folder, "all switched on", everything, images=images),
            *_archive(
                folder, "application hangs", everything | {"KLING_FORWARD_URL": hanging}, images=images
            ),
        ]


@contextlib.contextmanager
def _application(folder: Path) -> Iterator[str]:
    port = free_port()
    with python(["-m", "tests.bench.bare", str(port)], port=port, log=folder / "application.log"):
        yield f"http://127.0.0.1:{port}/told"


@contextlib.contextmanager
def _hanging_application() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as bound:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/told"


def _door(folder: Path, everything: dict[str, str], *, seconds: float) -> list[str]:
    with _daemon(folder / "without", {}) as without, _daemon(folder / "with", everything) as with_all:
        sides = (without, with_all)
        for number in range(ROUNDS):
            for side in sides:
                side.measure(seconds=seconds, first_id=number * 10**9)
    return _lines(
        "callback", "µs", "all switched on", *(side.rates for side in sides), *(side.cpu_us for side in sides)
    )


class _Daemon:
    """One daemon, and the results of its rounds."""

    def __init__(self, port: int, pid: int) -> None:
        self.rates, self.cpu_us = list[float](), list[float]()
        self._port, self._pid = port, pid

    def measure(self, *, seconds: float, first_id: int) -> None:
        before = self._cpu_seconds()
        figures = door.load(self._port, CALLBACKS_PATH, seconds=seconds, first_id=first_id)
        self.rates.append(figures["per_second"])
        answered = sum(figures["statuses"].values())
        self.cpu_us.append((self._cpu_seconds() - before) / answered * 1e6)

    def _cpu_seconds(self) -> float:
        """Of all its threads (Linux)."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _daemon(folder: Path, more: dict[str, str]) -> Iterator[_Daemon]:
    folder.mkdir()
    port = free_port()
    environ = daemon_environment(folder, port=port, KLING_SPOOL_DIR=str(folder / "spool"), **more)
    with python(["-m", "receiver"], port=port, log=folder / "daemon.log", environ=environ) as process:
        yield _Daemon(port, process.pid)


def _archive(folder: Path, what: str, everything: dict[str, str], *, images: int) -> list[str]:
    log.configure(format="json", level="info", stream=(folder / "engine.log").open("w"))
    without, with_all = list[transfers.Figure](), list[transfers.Figure]()
    for number in range(ROUNDS):
        for name, figures, more in (("without", without, {}), ("with", with_all, everything)):
            with transfers.a_place(folder, distance_ms=0) as place:
                figures.append(transfers.archiving(place, folder / f"{what} {name}-{number}", images, **more))
    sides = (without, with_all)
    return _lines(
        "image",
        "ms",
        what,
        *([figure.images_per_second for figure in side] for side in sides),
        *([figure.cpu_ms_per_image for figure in side] for side in sides),
    )


def _lines(
    what: str,
    unit: str,
    with_what: str,
    rates_without: Sequence[float],
    rates: Sequence[float],
    cpu_without: Sequence[float],
    cpu: Sequence[float],
) -> list[str]:
    return [
        f"{what}s/s, {with_what}      {transfers.compared(rates, rates_without)}  (≥ {RATIO_MIN:.2f})",
        f"CPU {unit} per {what}, {with_what}      {transfers.compared(cpu, cpu_without)}",
    ]
