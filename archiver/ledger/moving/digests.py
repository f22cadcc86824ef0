"""Proves that two databases hold the same rows: by counts and digests of each table.

A digest is the sum of the digests of its rows. So it does not depend on their order: another database may sort texts
differently.
"""

import dataclasses
import hashlib
from collections.abc import Iterable
from typing import Any

_MODULUS = 1 << 256


@dataclasses.dataclass(slots=True)
class TableDigest:
    """The count and digest of the rows of one table."""

    rows: int = 0
    total: int = 0

    def add(self, rows: Iterable[bytes]) -> None:
        """Add `encoded` rows."""
        for row in rows:
            self.rows += 1
            self.total += int.from_bytes(hashlib.sha256(row).digest())
        self.total %= _MODULUS

    @property
    def hex(self) -> str:
        """As 64 digits."""
        return f"{self.total:064x}"


def encoded(row: tuple[Any, ...]) -> bytes:
    """A row as bytes: `repr` writes each value of a ledger in exactly one way."""
    return repr(row).encode()
