"""Sessions of other programs on the same server, which behave badly."""

import contextlib
import threading
from collections.abc import Iterator

import sqlalchemy as sa

STEP_SECONDS = 0.02
ROWS = 30
PAUSE_SECONDS = 0.3
"""The newest tasks are locked for so long, the others until it is their turn."""

_NEWEST = sa.text("SELECT id FROM tasks ORDER BY id DESC LIMIT :rows")
_LOCK = sa.text("SELECT id FROM tasks WHERE id = :id FOR UPDATE")


@contextlib.contextmanager
def locking_backwards(url: str) -> Iterator[None]:
    """One that locks the newest tasks again and again, the last first: the ledger locks them the other way round."""
    ends = threading.Event()
    engine = _engine(url)

    def lock() -> None:
        while not ends.is_set():
            with contextlib.suppress(sa.exc.DBAPIError), engine.begin() as connection:
                ids = list(connection.execute(_NEWEST, {"rows": ROWS}).scalars())
                for place, row_id in enumerate(ids):
                    connection.execute(_LOCK, {"id": row_id})
                    ends.wait(PAUSE_SECONDS if place == 0 else STEP_SECONDS)

    locker = threading.Thread(target=lock)
    locker.start()
    try:
        yield
    finally:
        ends.set()
        locker.join()
        engine.dispose()


@contextlib.contextmanager
def taking_all_connections(url: str) -> Iterator[None]:
    """As many as the server gives, those that become free too."""
    ends = threading.Event()
    engine = _engine(url)

    def take() -> None:
        taken: list[sa.Connection] = []
        while not ends.is_set():
            try:
                taken.append(engine.connect())
            except sa.exc.DBAPIError:
                ends.wait(STEP_SECONDS)
        for connection in taken:
            connection.close()

    taker = threading.Thread(target=take)
    taker.start()
    try:
        yield
    finally:
        ends.set()
        taker.join()
        engine.dispose()


def _engine(url: str) -> sa.Engine:
    return sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
