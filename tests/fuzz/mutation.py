"""Good samples, changed at random: fuzzing without coverage."""

import random
from collections.abc import Iterator

from tests.fuzz.targets import Target

CHANGES_MAX = 8
BYTES_MAX = 8192


def mutants(target: Target, *, seed: int) -> Iterator[bytes]:
    """Endless, and the same for the same seed."""
    choose = random.Random(seed)
    while True:
        data = bytearray(choose.choice(target.samples))
        for _ in range(choose.randint(1, CHANGES_MAX)):
            _change(data, target, choose)
        yield bytes(data[:BYTES_MAX])


def _change(data: bytearray, target: Target, choose: random.Random) -> None:
    start = choose.randint(0, len(data))
    end = min(len(data), start + choose.choice([0, 1, 1, 2, 4, 16, 64]))
    data[start:end] = choose.choice(
        [
            b"",
            choose.randbytes(max(1, end - start)),
            choose.choice(target.words),
            bytes(data[start:end]) * 2,
            choose.choice(target.samples)[start:end],
        ]
    )
