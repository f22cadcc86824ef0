"""Shares the threads of forwarding among consumers, so that a hanging consumer does not delay the others. In memory, no
I/O.

1. A client's consumer that has not answered yet gets one try at a time. All such consumers together get half of the
   threads.
2. A consumer that has failed twice in a row gets one try at a time, after 2 s doubling to 30 s. All such consumers
   together get a quarter of the threads.
3. No consumer gets more than half of the threads, and clients leave a quarter to the operator's application.
4. Consumers take turns: the one whose last try began longest ago goes first, those that were never tried before all.
   So neither hanging nor failing consumers keep a thread from another one of their kind.

After a restart, a client's consumer fails from the beginning if the ledger says that it left two tries of a forward
unanswered. Else two tries are needed to detect it.
"""

import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterable

from archiver.ledger import OPERATOR_CONSUMER

FAILURES_MIN = 2
PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX = 2.0, 30.0
CONSUMERS_MAX = 10_000
"""How many consumers are remembered."""


@dataclasses.dataclass(slots=True)
class _Consumer:
    in_flight: int = 0
    turn: int = 0
    """The number of its last try, counted over all consumers."""
    has_answered: bool = False
    failures: int = 0
    """Failures in a row."""
    resumes_at: float = 0.0

    @property
    def is_failing(self) -> bool:
        return self.failures >= FAILURES_MIN


class ConsumerShares:
    """Thread-safe."""

    def __init__(self, threads: int, *, monotonic: Callable[[], float]) -> None:
        self._threads = threads
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._consumers: dict[str, _Consumer] = {}
        self._turns = itertools.count(1)

    def expect_failure(self, names: Iterable[str]) -> None:
        """The ledger says that these were failing before. What this process has seen of a consumer itself overrides
        that."""
        with self._lock:
            for name in names:
                self._consumers.setdefault(name, _Consumer(failures=FAILURES_MIN))

    def in_turn(self, names: Iterable[str]) -> list[str]:
        """The consumers in the order of their turns: the one whose last try began longest ago comes first."""
        with self._lock:
            turns = {name: consumer.turn for name, consumer in self._consumers.items()}
        return sorted(names, key=lambda name: turns.get(name, 0))

    def room(self, name: str) -> int:
        """How many tries may begin now."""
        with self._lock:
            consumer = self._consumers.get(name, _Consumer())
            limits = [self._threads - self._in_flight(), self._share(2) - consumer.in_flight]
            if name != OPERATOR_CONSUMER:
                clients = self._in_flight(lambda other, _: other != OPERATOR_CONSUMER)
                limits.append(self._threads - self._share(4) - clients)
            if consumer.is_failing:
                if self._monotonic() < consumer.resumes_at:
                    return 0
                failing = self._in_flight(lambda _, other: other.is_failing)
                limits += [1 - consumer.in_flight, self._share(4) - failing]
            elif not consumer.has_answered and name != OPERATOR_CONSUMER:
                new = self._in_flight(lambda _, other: not other.has_answered)
                limits += [1 - consumer.in_flight, self._share(2) - new]
            return max(0, min(limits))

    def began(self, name: str) -> None:
        """A try has begun."""
        with self._lock:
            consumer = self._consumers.setdefault(name, _Consumer())
            consumer.in_flight += 1
            consumer.turn = next(self._turns)

    def ended(self, name: str, *, was_taken: bool | None) -> int:
        """A try has ended; `None` if it shows nothing about the consumer. Returns how many have failed in a row."""
        with self._lock:
            consumer = self._consumers.setdefault(name, _Consumer())
            consumer.in_flight -= 1
            if was_taken:
                consumer.has_answered, consumer.failures = True, 0
            elif was_taken is False:
                consumer.failures += 1
                pause = min(PAUSE_SECONDS_FIRST * 2.0 ** min(consumer.failures - 1, 10), PAUSE_SECONDS_MAX)
                consumer.resumes_at = self._monotonic() + pause
            self._forget_some()
            return consumer.failures

    def _share(self, divisor: int) -> int:
        return max(1, self._threads // divisor)

    def _in_flight(self, counts: Callable[[str, _Consumer], bool] = lambda _name, _consumer: True) -> int:
        return sum(consumer.in_flight for name, consumer in self._consumers.items() if counts(name, consumer))

    def _forget_some(self) -> None:
        if len(self._consumers) > CONSUMERS_MAX:
            idle = next(name for name, consumer in self._consumers.items() if not consumer.in_flight)
            del self._consumers[idle]
