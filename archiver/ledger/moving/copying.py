"""Copies every row of a ledger into an empty database, in one transaction there, and compares."""

import dataclasses
import enum
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from archiver.ledger.databases import whole
from archiver.ledger.databases.errors import LedgerUnusable
from archiver.ledger.moving.digests import TableDigest, encoded
from archiver.phrases import count_of

BATCH_ROWS = 1000
UNSTORABLE = "\0"
"""PostgreSQL stores no text with this character. The ledger writes none, but a file may be older than that rule."""
IN_ITS_PLACE = "\N{REPLACEMENT CHARACTER}"


class Phase(enum.StrEnum):
    """The phases of a move."""

    PREPARE = "preparing"
    COPY = "copying"
    INDEX = "building indexes"
    COMPARE = "comparing"
    GIVE_UP = "giving up the old ledger"
    USE = "taking the new ledger into use"


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a phase; rows only if it goes through rows."""

    phase: Phase
    rows: int = 0
    rows_total: int = 0


Watch = Callable[[Progress], object]


class Copy:
    """The copy of the ledger that `source` reads, into the tables that `target` has just created."""

    def __init__(self, source: sa.Connection, target: sa.Connection, *, watch: Watch, name: str) -> None:
        """`name` is the new ledger's, for messages."""
        self.digests: dict[str, TableDigest] = {}
        self.replaced_texts = 0
        """The number of texts with characters that the new database cannot store."""
        self._source = source
        self._target = target
        self._watch = watch
        self._name = name
        self._holds_all = target.dialect.name != "postgresql"

    def run(self) -> None:
        """Raises LedgerUnusable if a row cannot be stored, or if the two do not hold the same in the end."""
        counts = [sa.select(sa.func.count()).select_from(table) for table in whole.TABLES]
        total = sum(self._source.execute(count).scalar_one() for count in counts)
        indexes = [
            index
            for table in whole.TABLES
            for index in sorted(table.indexes, key=lambda index: str(index.name))
        ]
        for index in indexes:  # built at once in the end, in a fraction of the time
            index.drop(self._target)
        done = 0
        for table in whole.TABLES:
            digest = self.digests[table.name] = TableDigest()
            for rows in whole.rows_of(self._source, table, batch_rows=BATCH_ROWS):
                self._store(table, rows, digest)
                done += len(rows)
                self._watch(Progress(Phase.COPY, done, total))
        for number, index in enumerate(indexes):
            self._watch(Progress(Phase.INDEX, number, len(indexes)))
            index.create(self._target)
        whole.number_on(self._target)
        self._compare(total)
        whole.analyze(self._target)

    def _store(self, table: sa.Table, rows: list[tuple[Any, ...]], digest: TableDigest) -> None:
        texts = [encoded(row) for row in rows]
        # How `repr` writes the character, and perhaps other texts: to search every value takes twice as long.
        if not self._holds_all and any(b"\\x00" in text for text in texts):
            rows = [self._fit(row) for row in rows]
            texts = [encoded(row) for row in rows]
        digest.add(texts)
        try:
            whole.insert_rows(self._target, table, rows)
        except (exc.IntegrityError, exc.DataError) as error:
            raise LedgerUnusable(
                f"a row of the table {table.name} cannot be stored in {self._name}: "
                f"{' '.join(str(error.orig).split())}. Nothing was changed"
            ) from error

    def _fit(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        fitting = tuple(
            value.replace(UNSTORABLE, IN_ITS_PLACE) if isinstance(value, str) else value for value in row
        )
        self.replaced_texts += sum(old != new for old, new in zip(row, fitting, strict=True))
        return fitting

    def _compare(self, total: int) -> None:
        done = 0
        for table in whole.TABLES:
            digest = TableDigest()
            for rows in whole.rows_of(self._target, table, batch_rows=BATCH_ROWS):
                digest.add(map(encoded, rows))
                done += len(rows)
                self._watch(Progress(Phase.COMPARE, done, total))
            if digest != (expected := self.digests[table.name]):
                raise LedgerUnusable(
                    f"{self._name} does not hold what was copied: {count_of(digest.rows, 'row')} of {table.name} with "
                    f"the digest {digest.hex}, not {expected.rows} with {expected.hex}. Nothing was changed"
                )
