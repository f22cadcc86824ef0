"""The statements that code executes, and how PostgreSQL goes about them."""

import re
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event


def executed(do: Callable[[], object]) -> list[tuple[str, Any]]:
    """The statements that `do` executes, with parameters."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters[0] if isinstance(parameters, list) else parameters))

    event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        do()
    finally:
        event.remove(sa.Engine, "before_cursor_execute", note)
    return [(said, given) for said, given in statements if re.match(r"SELECT|UPDATE|DELETE|WITH", said)]


def plan_of(connection: sa.Connection, statement: str, parameters: Any) -> str:
    """PostgreSQL's plan."""
    return "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars())
