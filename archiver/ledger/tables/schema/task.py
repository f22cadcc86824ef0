"""The table of tasks: one row for each id that Kling, a client or the sweep has named.

`queue` is not the state: an unconfirmed id waits in `inquire`, first come first served, so that a flood of forged ids
does not slow the scans of the other queues.
"""

from collections.abc import Mapping

import sqlalchemy as sa

from archiver.ledger.tables.schema.elements import ROW_ID, metadata, partial_index
from archiver.model import Stage, State

QUEUE_VERIFY = "verify"
"""Confirmed tasks that must be queried again: running and buried ones."""
QUEUE_UNCONFIRMED = "inquire"
"""Unconfirmed ids: only a callback or a registration has named them."""
QUEUE_ARCHIVE = "archive"
STAGE_QUEUES: Mapping[Stage, tuple[str, ...]] = {
    Stage.VERIFY: (QUEUE_VERIFY, QUEUE_UNCONFIRMED),
    Stage.ARCHIVE: (QUEUE_ARCHIVE,),
}
"""Where a stage's tasks wait. The sweep has none."""

_STATES = ", ".join(f"'{state}'" for state in State)

tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("task_id", sa.Text, nullable=False),
    sa.Column("external_task_id", sa.Text),
    sa.Column("family", sa.Text, comment="settled by the first answer of the API, never changed after"),
    sa.Column("family_hint", sa.Text, comment="from the callback URL or the registration"),
    sa.Column("result_arrays", sa.Text, nullable=False, comment="comma list from the callback, a hint only"),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("queue", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("message", sa.Text),
    sa.Column(
        "attempts", sa.Integer, nullable=False, comment="of the present stage, the running one included"
    ),
    sa.Column("held", sa.Integer, nullable=False, comment="times in a row that this task has set off a hold"),
    sa.Column("due_at", sa.BigInteger, comment="NULL: not moved on by itself"),
    sa.Column("lease_token", sa.Text),
    sa.Column("lease_until", sa.BigInteger),
    sa.Column("created_at", sa.BigInteger, comment="fixed at the first confirmation"),
    sa.Column("created_at_from", sa.Text, comment="api | updated_at | first_seen"),
    sa.Column("updated_at", sa.BigInteger),
    sa.Column("deadline_at", sa.BigInteger, nullable=False),
    sa.Column("first_seen_at", sa.BigInteger, nullable=False),
    sa.Column("confirmed_at", sa.BigInteger),
    sa.Column("asked_at", sa.BigInteger),
    sa.Column("asked", sa.Integer, nullable=False, comment="answers in a row that did not settle it"),
    # Stored under its old word: a released revision made it.
    sa.Column(
        "ask_singly", sa.Boolean, key="query_individually", nullable=False, comment="no list page showed it"
    ),
    sa.Column("not_found_since", sa.BigInteger, comment="the first definite not-found"),
    sa.Column("discovered_by", sa.Text, nullable=False),
    sa.Column("callbacks", sa.Integer, nullable=False),
    sa.Column("callback_status", sa.Text, comment="the last one; '' for a word we do not know"),
    sa.Column("last_callback_at", sa.BigInteger),
    sa.Column("swept_finished_at", sa.BigInteger, comment="when the sweep was first to find it finished"),
    sa.Column("asset_host", sa.Text),
    sa.Column(
        "host_tried", sa.Boolean, nullable=False, server_default=sa.false(), comment="and has failed at"
    ),
    sa.Column("claim_group", sa.Text, comment="what a hold stops together; NULL unless due and free"),
    sa.Column("fresh_wanted_at", sa.BigInteger, comment="since when its URLs do not work"),
    sa.Column("fresh_due_at", sa.BigInteger, comment="when to ask the API for others"),
    sa.Column("fresh_asked_at", sa.BigInteger, comment="when the API last answered that"),
    sa.Column("document", sa.Text, comment="the API's own object, as JSON"),
    sa.Column("request", sa.Text, comment="what was asked for, as JSON, where we were told"),
    sa.Column("manifest_key", sa.Text),
    sa.Column("archived_at", sa.BigInteger),
    sa.Column("running_at", sa.BigInteger, comment="when the API last said that it runs, to the hour"),
    sa.Column(
        "named_at",
        sa.BigInteger,
        comment="when anybody last named an id that the API has not confirmed",
    ),
    sa.Column("succeeded_at", sa.BigInteger, comment="when the API first said that it succeeded"),
    sa.Column("unseen_since", sa.BigInteger, comment="since when it is lost or buried; NULL: acknowledged"),
    sa.Column("set_aside_for", sa.Text, comment="the reason of its last burial"),
    sa.Column("seen_again_at", sa.BigInteger, comment="when all of its objects were last seen in the bucket"),
    sa.Column("client_callback_url", sa.Text, comment="that a client of the gateway gave at the create"),
    sa.Column(
        "named_by_create",
        sa.Boolean,
        nullable=False,
        server_default=sa.false(),
        comment="the API gave this id in its answer to a create, so it is no external id",
    ),
    sa.UniqueConstraint("account", "task_id", name="tasks_identity"),
    # A CHECK that is NULL has passed, hence the coalesce wherever NULL would be wrong.
    sa.CheckConstraint(f"state IN ({_STATES})", name="state_known"),
    sa.CheckConstraint("queue IN ('verify', 'inquire', 'archive')", name="queue_known"),
    sa.CheckConstraint(
        "CASE state WHEN 'archived' THEN queue IS NULL WHEN 'failed' THEN coalesce(queue, 'verify') = 'verify'"
        " WHEN 'succeeded' THEN coalesce(queue, '') = 'archive' WHEN 'lost' THEN coalesce(queue, '') = 'archive'"
        " WHEN 'running' THEN coalesce(queue, '') = 'verify'"
        " WHEN 'buried' THEN coalesce(queue, '') IN ('verify', 'inquire')"
        " ELSE coalesce(queue, '') = 'inquire' END",
        name="queue_fits_state",
    ),
    sa.CheckConstraint(
        "(confirmed_at IS NULL) = (coalesce(queue, '') = 'inquire')", name="inquire_unconfirmed"
    ),
    sa.CheckConstraint("(lease_token IS NULL) = (lease_until IS NULL)", name="lease_whole"),
    sa.CheckConstraint("lease_token IS NULL OR queue IS NOT NULL", name="lease_on_work_only"),
    # Only a lost task waits for nothing: gone upstream, or tried for its 37 days.
    sa.CheckConstraint("(queue IS NULL) = (due_at IS NULL) OR state = 'lost'", name="work_is_due"),
    sa.CheckConstraint(
        "state NOT IN ('buried', 'failed', 'lost') OR reason IS NOT NULL", name="reason_given"
    ),
    sa.CheckConstraint(
        "state NOT IN ('running', 'succeeded', 'archived', 'failed', 'lost')"
        " OR (family IS NOT NULL AND created_at IS NOT NULL AND confirmed_at IS NOT NULL AND document IS NOT NULL)",
        name="confirmed_whole",
    ),
    sa.CheckConstraint(
        "(state = 'archived') = (manifest_key IS NOT NULL) AND (state = 'archived') = (archived_at IS NOT NULL)",
        name="archived_whole",
    ),
    sa.CheckConstraint("attempts >= 0 AND asked >= 0 AND held >= 0 AND callbacks >= 0", name="counts"),
)

# Claims take one step along these for each claim group. Partial: a callback's 200 waits for each index that its row is
# in.
_LANES = {
    "tasks_by_deadline": (tasks.c.deadline_at,),
    "tasks_by_attempts": (tasks.c.attempts, tasks.c.due_at),
    "tasks_to_probe": (tasks.c.held, tasks.c.due_at),
}
for _name, _order in _LANES.items():
    partial_index(
        _name,
        tasks.c.queue,
        tasks.c.account,
        tasks.c.claim_group,
        *_order,
        where=tasks.c.claim_group.is_not(None),
    )
partial_index(
    "tasks_to_promote",
    tasks.c.queue,
    tasks.c.account,
    tasks.c.due_at,
    tasks.c.asset_host,
    where=sa.and_(tasks.c.claim_group.is_(None), tasks.c.confirmed_at.is_not(None)),
)
partial_index(
    "tasks_wanting_fresh_urls",
    tasks.c.account,
    tasks.c.fresh_due_at,
    where=tasks.c.fresh_due_at.is_not(None),
)
# For `unconfirmed`: it takes a few rows from an end, past no other account's.
partial_index(
    "tasks_unconfirmed",
    tasks.c.account,
    tasks.c.named_at,
    tasks.c.confirmed_at,
    where=tasks.c.confirmed_at.is_(None),
)
partial_index(
    "tasks_denied",
    tasks.c.account,
    tasks.c.named_at,
    tasks.c.confirmed_at,
    tasks.c.not_found_since,
    where=sa.and_(tasks.c.confirmed_at.is_(None), tasks.c.not_found_since.is_not(None)),
)
partial_index(
    "tasks_by_external",
    tasks.c.account,
    tasks.c.external_task_id,
    where=tasks.c.external_task_id.is_not(None),
)
partial_index(
    "tasks_finished_unannounced", tasks.c.swept_finished_at, where=tasks.c.swept_finished_at.is_not(None)
)
partial_index(
    "tasks_succeeded",
    tasks.c.account,
    tasks.c.succeeded_at,
    where=tasks.c.state == sa.literal_column("'succeeded'"),
)
partial_index(
    "tasks_unread",
    tasks.c.account,
    tasks.c.confirmed_at,
    where=sa.and_(
        tasks.c.state == sa.literal_column("'running'"),
        tasks.c.reason == sa.literal_column("'api_answer_unreadable'"),
    ),
)
partial_index(
    "tasks_unseen",
    tasks.c.account,
    tasks.c.state,
    tasks.c.deadline_at,
    where=tasks.c.unseen_since.is_not(None),
)
# For pages of tasks.
partial_index(
    "tasks_by_family",
    tasks.c.account,
    tasks.c.family,
    tasks.c.state,
    tasks.c.deadline_at,
    where=tasks.c.family.is_not(None),
)
partial_index(
    "tasks_by_hint",
    tasks.c.account,
    tasks.c.family_hint,
    tasks.c.state,
    tasks.c.deadline_at,
    where=tasks.c.confirmed_at.is_(None),
)
partial_index(
    # With the state: else SQLite prefers `tasks_by_state`, which has forged ids too.
    "tasks_buried",
    tasks.c.state,
    tasks.c.deadline_at,
    where=sa.and_(tasks.c.state == sa.literal_column("'buried'"), tasks.c.confirmed_at.is_not(None)),
)
partial_index(
    # For the nearest deadline: neither forged ids nor what is acknowledged are passed on the way to it.
    "tasks_buried_unseen",
    tasks.c.state,
    tasks.c.deadline_at,
    where=sa.and_(
        tasks.c.state == sa.literal_column("'buried'"),
        tasks.c.confirmed_at.is_not(None),
        tasks.c.unseen_since.is_not(None),
    ),
)
sa.Index("tasks_by_due", tasks.c.queue, tasks.c.account, tasks.c.due_at)
sa.Index("tasks_to_match", tasks.c.queue, tasks.c.account, tasks.c.query_individually, tasks.c.due_at)
sa.Index("tasks_by_state", tasks.c.state, tasks.c.deadline_at)
# A start frees leases: it must not look at every task.
partial_index("tasks_leased", tasks.c.lease_token, where=tasks.c.lease_token.is_not(None))
