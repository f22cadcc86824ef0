"""The marks of a ledger during a move and afterwards.

In place of its revision stands a word that no version of the program takes for a revision that it may use.
"""

import dataclasses
import datetime

import sqlalchemy as sa

MOVING = "moving"
"""The ledger is complete, but the old one may still be in use: no program uses this one yet."""
MOVED = "moved"
"""The ledger is in another database now; the tables that are left have other names."""

_revision = sa.table("alembic_version", sa.column("version_num", sa.Text))
_moves = sa.Table(
    "ledger_move",
    sa.MetaData(),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, nullable=False, comment="URLs without passwords"),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
)
"""One row, only in a ledger with one of these marks."""


@dataclasses.dataclass(frozen=True, slots=True)
class Move:
    """From where to where (URLs without passwords), and when (Unix ms)."""

    id: str
    source: str
    target: str
    at: int

    @property
    def day(self) -> str:
        """The day of the move, for sentences."""
        return f"{datetime.datetime.fromtimestamp(self.at / 1000, tz=datetime.UTC):%Y-%m-%d %H:%M} UTC"


def mark(connection: sa.Connection, word: str, move: Move) -> None:
    """Let the ledger say `word` in place of its revision."""
    _moves.drop(connection, checkfirst=True)
    _moves.create(connection)
    connection.execute(sa.insert(_moves), dataclasses.asdict(move))
    connection.execute(sa.update(_revision).values(version_num=word))


def unmark(connection: sa.Connection, *, revision: str) -> None:
    """Remove the mark: the ledger can be used again."""
    connection.execute(sa.update(_revision).values(version_num=revision))
    _moves.drop(connection, checkfirst=True)


def read_mark(connection: sa.Connection) -> tuple[str, Move] | None:
    """The word and the move of it; None for a ledger that can be used, or none at all."""
    if not sa.inspect(connection).has_table(_moves.name):
        return None
    word = connection.execute(sa.select(_revision.c.version_num)).scalar_one()
    return word, Move(*connection.execute(sa.select(_moves)).one())


def sentence_of(mark: tuple[str, Move]) -> str:
    """Why no program may use the ledger, and what to do."""
    word, move = mark
    if word == MOVED:
        return f"was moved to {move.target} on {move.day}: set KLING_LEDGER_URL to that one"
    return (
        f"is being filled from {move.source}: run `kling-archiver move-ledger {move.source} {move.target}` again, "
        "which ends that"
    )
