"""States and the transition table, and the stages that move a task through them."""

import enum
from collections.abc import Mapping


class State(enum.StrEnum):
    """The values are a contract: ledger, `show`, `status`, metrics."""

    REPORTED = "reported"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    ARCHIVED = "archived"
    FAILED = "failed"
    UNKNOWN = "unknown"
    BURIED = "buried"
    LOST = "lost"


class Stage(enum.StrEnum):
    """A part of the pipeline."""

    VERIFY = "verify"
    ARCHIVE = "archive"
    SWEEP = "sweep"
    FORWARD = "forward"


class Lane(enum.StrEnum):
    """An order in which the archive stage takes tasks."""

    DEADLINE = "deadline"
    ATTEMPTS = "attempts"
    NEWEST = "newest"
    LOST = "lost"


class FolderWorkKind(enum.StrEnum):
    """Work in the folder of a task that has left the archive stage."""

    AMEND = "amend"
    """`amendment-1.json`, …: what the API names beyond the manifest."""
    INCOMPLETE = "incomplete"
    """`incomplete.json`: what was saved of a lost task, and what was not."""
    RESTORE = "restore"
    """Objects that were there and are missing now."""


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.REPORTED: frozenset(
        {State.RUNNING, State.SUCCEEDED, State.FAILED, State.UNKNOWN, State.BURIED, State.LOST}
    ),
    State.RUNNING: frozenset({State.SUCCEEDED, State.FAILED, State.BURIED, State.LOST}),
    State.SUCCEEDED: frozenset({State.ARCHIVED, State.BURIED, State.LOST}),
    State.UNKNOWN: frozenset(
        {State.REPORTED, State.RUNNING, State.SUCCEEDED, State.FAILED, State.BURIED, State.LOST}
    ),
    State.BURIED: frozenset(
        {
            State.REPORTED,
            State.RUNNING,
            State.SUCCEEDED,
            State.ARCHIVED,
            State.FAILED,
            State.UNKNOWN,
            State.LOST,
        }
    ),
    State.LOST: frozenset({State.ARCHIVED}),
    # Only a `succeed` of the API moves a failed task, to `buried` where it has no URL; nothing moves an archived one.
    State.FAILED: frozenset({State.SUCCEEDED, State.BURIED}),
    State.ARCHIVED: frozenset(),
}

TERMINAL = frozenset({State.ARCHIVED, State.FAILED})
"""States in which no work is left."""
