"""The first schema, statement by statement.

A released revision is never edited, and never asks `schema.py`: what that says later is the business of later
revisions. A test holds the sum of all revisions against `schema.py`.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table."""
    _create_tasks()
    _create_assets()
    _create_history()
    _create_holds()
    _create_sweeps()
    _create_daemons()
    _create_facts()


def _create_tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("external_task_id", sa.Text(), nullable=True),
        sa.Column(
            "family",
            sa.Text(),
            nullable=True,
            comment="settled by the first answer of the API, never changed after",
        ),
        sa.Column(
            "family_hint", sa.Text(), nullable=True, comment="from the callback URL or the registration"
        ),
        sa.Column(
            "result_arrays", sa.Text(), nullable=False, comment="comma list from the callback, a hint only"
        ),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column(
            "attempts", sa.Integer(), nullable=False, comment="of the present stage, the running one included"
        ),
        sa.Column(
            "held", sa.Integer(), nullable=False, comment="times in a row that this task has set off a hold"
        ),
        sa.Column("due_at", sa.BigInteger(), nullable=True, comment="NULL: not moved on by itself"),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=True, comment="fixed at the first confirmation"),
        sa.Column("created_at_from", sa.Text(), nullable=True, comment="api | updated_at | first_seen"),
        sa.Column("updated_at", sa.BigInteger(), nullable=True),
        sa.Column("deadline_at", sa.BigInteger(), nullable=False),
        sa.Column("first_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_at", sa.BigInteger(), nullable=True),
        sa.Column("asked_at", sa.BigInteger(), nullable=True),
        sa.Column("asked", sa.Integer(), nullable=False, comment="answers in a row that did not settle it"),
        sa.Column("ask_singly", sa.Boolean(), nullable=False, comment="no list page showed it"),
        sa.Column("not_found_since", sa.BigInteger(), nullable=True, comment="the first definite not-found"),
        sa.Column("discovered_by", sa.Text(), nullable=False),
        sa.Column("callbacks", sa.Integer(), nullable=False),
        sa.Column(
            "callback_status", sa.Text(), nullable=True, comment="the last one; '' for a word we do not know"
        ),
        sa.Column("last_callback_at", sa.BigInteger(), nullable=True),
        sa.Column(
            "swept_finished_at",
            sa.BigInteger(),
            nullable=True,
            comment="when the sweep was first to find it finished",
        ),
        sa.Column("asset_host", sa.Text(), nullable=True),
        sa.Column("document", sa.Text(), nullable=True, comment="the API's own object, as JSON"),
        sa.Column(
            "request", sa.Text(), nullable=True, comment="what was asked for, as JSON, where we were told"
        ),
        sa.Column("manifest_key", sa.Text(), nullable=True),
        sa.Column("archived_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(confirmed_at IS NULL) = (coalesce(queue, '') = 'inquire')", name="inquire_unconfirmed"
        ),
        sa.CheckConstraint("(queue IS NULL) = (due_at IS NULL) OR state = 'lost'", name="work_is_due"),
        sa.CheckConstraint(
            "(state = 'archived') = (manifest_key IS NOT NULL) AND (state = 'archived') ="
            " (archived_at IS NOT NULL)",
            name="archived_whole",
        ),
        sa.CheckConstraint(
            "CASE state WHEN 'archived' THEN queue IS NULL WHEN 'failed' THEN coalesce(queue,"
            " 'verify') = 'verify' WHEN 'succeeded' THEN coalesce(queue, '') = 'archive' WHEN"
            " 'lost' THEN coalesce(queue, '') = 'archive' WHEN 'running' THEN coalesce(queue, '') ="
            " 'verify' WHEN 'buried' THEN coalesce(queue, '') IN ('verify', 'inquire') ELSE"
            " coalesce(queue, '') = 'inquire' END",
            name="queue_fits_state",
        ),
        sa.CheckConstraint("queue IN ('verify', 'inquire', 'archive')", name="queue_known"),
        sa.CheckConstraint(
            "state IN ('reported', 'running', 'succeeded', 'archived', 'failed', 'unknown',"
            " 'buried', 'lost')",
            name="state_known",
        ),
        sa.CheckConstraint(
            "state NOT IN ('buried', 'failed', 'lost') OR reason IS NOT NULL", name="reason_given"
        ),
        sa.CheckConstraint(
            "state NOT IN ('running', 'succeeded', 'archived', 'failed', 'lost') OR (family IS NOT"
            " NULL AND created_at IS NOT NULL AND confirmed_at IS NOT NULL AND document IS NOT"
            " NULL)",
            name="confirmed_whole",
        ),
        sa.CheckConstraint("(lease_token IS NULL) = (lease_until IS NULL)", name="lease_whole"),
        sa.CheckConstraint("attempts >= 0 AND asked >= 0 AND held >= 0 AND callbacks >= 0", name="counts"),
        sa.CheckConstraint("lease_token IS NULL OR queue IS NOT NULL", name="lease_on_work_only"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account", "task_id", name="tasks_identity"),
    )
    for name, order in (
        ("tasks_by_deadline", "deadline_at"),
        ("tasks_by_attempts", "attempts"),
        ("tasks_by_age", "first_seen_at"),
    ):
        columns = ["queue", order, "due_at", "lease_until", "account", "asset_host", "confirmed_at"]
        _create_partial_index(name, columns, where="confirmed_at IS NOT NULL")
    _create_partial_index("tasks_unconfirmed", ["first_seen_at"], where="confirmed_at IS NULL")
    _create_partial_index(
        "tasks_by_external", ["account", "external_task_id"], where="external_task_id IS NOT NULL"
    )
    _create_partial_index(
        "tasks_finished_unannounced", ["swept_finished_at"], where="swept_finished_at IS NOT NULL"
    )
    op.create_index("tasks_by_due", "tasks", ["queue", "due_at", "account"], unique=False)
    op.create_index("tasks_to_match", "tasks", ["queue", "ask_singly", "due_at"], unique=False)
    op.create_index("tasks_by_state", "tasks", ["state", "deadline_at"], unique=False)


def _create_partial_index(name: str, columns: list[str], *, where: str) -> None:
    clause = sa.text(where)
    op.create_index(name, "tasks", columns, unique=False, sqlite_where=clause, postgresql_where=clause)


def _create_assets() -> None:
    op.create_table(
        "assets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task", sa.Integer(), nullable=False),
        sa.Column("stem", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("api_index", sa.Integer(), nullable=True),
        sa.Column("watermarked", sa.Boolean(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True, comment="why it is not stored, after a try"),
        sa.Column(
            "incomplete_sha256",
            sa.Text(),
            nullable=True,
            comment="of a body that only the wholeness check refused",
        ),
        sa.Column("incomplete_at", sa.BigInteger(), nullable=True),
        sa.Column(
            "name",
            sa.Text(),
            nullable=True,
            comment="file name, extension included; NULL until stored, like all below",
        ),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("content_type", sa.Text(), nullable=True),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("source_url", sa.Text(), nullable=True, comment="the URL these bytes came from"),
        sa.Column("suspect", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(name IS NULL) = (key IS NULL) AND (name IS NULL) = (bytes IS NULL) AND (name IS NULL)"
            " = (sha256 IS NULL) AND (name IS NULL) = (content_type IS NULL) AND (name IS NULL) ="
            " (source_url IS NULL)",
            name="stored_whole",
        ),
        sa.ForeignKeyConstraint(["task"], ["tasks.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("task", "stem", name="assets_identity"),
    )


def _create_history() -> None:
    op.create_table(
        "history",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["task"], ["tasks.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_history_task"), "history", ["task"], unique=False)


def _create_holds() -> None:
    op.create_table(
        "holds",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False, comment="'' for every family"),
        sa.Column("host", sa.Text(), nullable=False, comment="'' for every host"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("what_to_do", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("probe_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account", "stage", "family", "host", name="holds_identity"),
    )


def _create_sweeps() -> None:
    op.create_table(
        "sweeps",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("last_success_at", sa.BigInteger(), nullable=True),
        sa.Column("last_full_at", sa.BigInteger(), nullable=True),
        sa.Column(
            "last_page",
            sa.Integer(),
            nullable=True,
            comment="the last page with rows, where the list runs oldest first",
        ),
        sa.Column("oldest_first", sa.Boolean(), nullable=False),
        sa.Column("missed_callbacks", sa.BigInteger(), nullable=False),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("account", "family"),
    )


def _create_daemons() -> None:
    op.create_table(
        "daemons",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def _create_facts() -> None:
    op.create_table(
        "facts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
