"""Counts what is put into the bucket, and how often."""

import itertools
import threading
import time

from tests.s3_servers import FaultyProxy
from tests.s3_servers.faulty import Exchange, Fault, Request
from tests.torture.figures import Figure, none_of


class PutCount:
    """All successful puts that pass a proxy, and the times of the faults that explain a second one."""

    def __init__(self, proxy: FaultyProxy) -> None:
        proxy.rule = self._rule
        self._lock = threading.Lock()
        self._puts: dict[str, list[tuple[float, float]]] = {}
        """Of each object, when each put came and was answered."""
        self._faults: list[list[float]] = []

    def fault_begins(self) -> None:
        """From now on, what was under way may be done again."""
        self._faults.append([time.monotonic(), float("inf")])

    def fault_ends(self) -> None:
        """All that suffered are back."""
        self._faults[-1][1] = time.monotonic()

    def _rule(self, request: Request) -> Fault | None:
        return self._put if request.method == "PUT" else None

    def _put(self, exchange: Exchange) -> None:
        came_at = time.monotonic()
        status, headers, body = exchange.forward()
        if status == 200:
            with self._lock:
                path = exchange.request.path.partition("?")[0]
                self._puts.setdefault(path, []).append((came_at, time.monotonic()))
        exchange.send(status, headers, body)

    def figures(self, interrupted: int) -> list[Figure]:
        """No more than `interrupted` tasks were at work when something failed."""
        twice = [
            (first, second) for puts in self._puts.values() for first, second in itertools.pairwise(puts)
        ]
        unexplained = [pair for pair in twice if not self._is_explained(*pair)]
        return [
            Figure("objects put", len(self._puts)),
            Figure("  twice, since a fault came between", len(twice) - len(unexplained), maximum=interrupted),
            none_of("  twice without a fault between", len(unexplained)),
        ]

    def _is_explained(self, first: tuple[float, float], second: tuple[float, float]) -> bool:
        """Whether a fault was there after the first had come, and before the second."""
        return any(begins <= second[0] and ends >= first[0] for begins, ends in self._faults)
