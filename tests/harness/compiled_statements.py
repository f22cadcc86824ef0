"""A pytest plugin that keeps the statements which SQLAlchemy has compiled for SQLite.

An engine forgets them with itself, and every test opens a ledger of its own: to compile them again took a fifth of a
test's time.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

from archiver.ledger.databases import sqlite

STATEMENTS_MAX = 5000

_compiled: LRUCache[Any, Any] = LRUCache(STATEMENTS_MAX)
_prepare = sqlite._prepare  # noqa: SLF001 -- where the ledger's engines are


def _prepare_with_compiled(engine: sa.Engine, *, checkpoint_pages: int) -> None:
    engine._compiled_cache = _compiled  # noqa: SLF001 -- the option `compiled_cache` is one of connections
    _prepare(engine, checkpoint_pages=checkpoint_pages)


@pytest.fixture(scope="session", autouse=True)
def _statements_kept() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite, "_prepare", _prepare_with_compiled)
        # Statements are kept under the dialect that they were compiled for, and every engine makes one.
        patch.setattr(SQLiteDialect_pysqlite, "__hash__", lambda dialect: hash(type(dialect)))
        patch.setattr(SQLiteDialect_pysqlite, "__eq__", lambda one, other: type(one) is type(other))
        yield
