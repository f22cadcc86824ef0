"""A part of the tasks, chosen by their keys: the same at each run, another with another number."""

import dataclasses
import hashlib


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """`percent` of the folders. Samples 0, 1, 2, … of 10 % lie side by side: ten of them are everything."""

    percent: float = 100.0
    """Above 0, at most 100."""
    number: int = 0

    def covers(self, path: str) -> bool:
        """Whether this folder is of the sample."""
        if self.percent >= 100:
            return True
        place = int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") / 2**64 * 100
        return (place - self.number * self.percent) % 100 < self.percent
