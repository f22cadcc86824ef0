"""The tables, with the state machine repeated as CHECKs: a row of a wrong shape cannot be committed.

Times are Unix ms. Nothing waits in memory: `queue` says which stage works on a task, `due_at` when, and a row in
`holds` may stop a whole stage.

`queue` is not the state: an unconfirmed id waits in `inquire`, first come first served, so that a flood of forged ids
does not slow the scans of the other queues.
"""

from collections.abc import Mapping

import sqlalchemy as sa

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

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""SQLite numbers rows by itself in a column that is called INTEGER, of 8 bytes too."""

metadata = sa.MetaData()

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


def _partial(name: str, *columns: sa.ColumnElement[object], where: sa.ColumnElement[bool]) -> sa.Index:
    """An index of the rows that `where` names. Only a query with the same words in its WHERE uses it."""
    return sa.Index(name, *columns, sqlite_where=where, postgresql_where=where)


# Claims take one step along these for each claim group. Partial: a callback's 200 waits for each index that its row is
# in.
_LANES = {
    "tasks_by_deadline": (tasks.c.deadline_at,),
    "tasks_by_attempts": (tasks.c.attempts, tasks.c.due_at),
    "tasks_to_probe": (tasks.c.held, tasks.c.due_at),
}
for _name, _order in _LANES.items():
    _partial(
        _name,
        tasks.c.queue,
        tasks.c.account,
        tasks.c.claim_group,
        *_order,
        where=tasks.c.claim_group.is_not(None),
    )
_partial(
    "tasks_to_promote",
    tasks.c.queue,
    tasks.c.account,
    tasks.c.due_at,
    tasks.c.asset_host,
    where=sa.and_(tasks.c.claim_group.is_(None), tasks.c.confirmed_at.is_not(None)),
)
_partial(
    "tasks_wanting_fresh_urls",
    tasks.c.account,
    tasks.c.fresh_due_at,
    where=tasks.c.fresh_due_at.is_not(None),
)
# For `unconfirmed`: it takes a few rows from an end, past no other account's.
_partial(
    "tasks_unconfirmed",
    tasks.c.account,
    tasks.c.named_at,
    tasks.c.confirmed_at,
    where=tasks.c.confirmed_at.is_(None),
)
_partial(
    "tasks_denied",
    tasks.c.account,
    tasks.c.named_at,
    tasks.c.confirmed_at,
    tasks.c.not_found_since,
    where=sa.and_(tasks.c.confirmed_at.is_(None), tasks.c.not_found_since.is_not(None)),
)
_partial(
    "tasks_by_external",
    tasks.c.account,
    tasks.c.external_task_id,
    where=tasks.c.external_task_id.is_not(None),
)
_partial(
    "tasks_finished_unannounced", tasks.c.swept_finished_at, where=tasks.c.swept_finished_at.is_not(None)
)
_partial(
    "tasks_succeeded",
    tasks.c.account,
    tasks.c.succeeded_at,
    where=tasks.c.state == sa.literal_column("'succeeded'"),
)
_partial(
    "tasks_unread",
    tasks.c.account,
    tasks.c.confirmed_at,
    where=sa.and_(
        tasks.c.state == sa.literal_column("'running'"),
        tasks.c.reason == sa.literal_column("'api_answer_unreadable'"),
    ),
)
_partial(
    "tasks_unseen",
    tasks.c.account,
    tasks.c.state,
    tasks.c.deadline_at,
    where=tasks.c.unseen_since.is_not(None),
)
# For pages of tasks. Partial, so that no callback waits for it.
_partial(
    "tasks_by_family",
    tasks.c.account,
    tasks.c.family,
    tasks.c.state,
    tasks.c.deadline_at,
    where=tasks.c.family.is_not(None),
)
sa.Index("tasks_by_due", tasks.c.queue, tasks.c.account, tasks.c.due_at)
sa.Index("tasks_to_match", tasks.c.queue, tasks.c.account, tasks.c.query_individually, tasks.c.due_at)
sa.Index("tasks_by_state", tasks.c.state, tasks.c.deadline_at)
# A start frees leases: it must not look at every task.
_partial("tasks_leased", tasks.c.lease_token, where=tasks.c.lease_token.is_not(None))

task_counts = sa.Table(
    "task_counts",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("is_confirmed", sa.Boolean, nullable=False),
    sa.Column(
        "tasks", sa.BigInteger, nullable=False, comment="how many more, or fewer; the sum is the count"
    ),
)

hourly_counts = sa.Table(
    "hourly_counts",
    metadata,
    sa.Column("hour_at", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("archived", sa.BigInteger, nullable=False, comment="by the first look in that hour, ever"),
)

assets = sa.Table(
    "assets",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("task", ROW_ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("stem", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("api_index", sa.Integer),
    sa.Column("watermarked", sa.Boolean, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, comment="why it is not stored, after a try"),
    sa.Column("failing_since", sa.BigInteger, comment="since when for that reason"),
    sa.Column("incomplete_sha256", sa.Text, comment="of a body that only the wholeness check refused"),
    sa.Column("incomplete_at", sa.BigInteger),
    sa.Column("name", sa.Text, comment="file name, extension included; NULL until stored, like all below"),
    sa.Column("key", sa.Text),
    sa.Column("bytes", sa.BigInteger),
    sa.Column("sha256", sa.Text),
    sa.Column("content_type", sa.Text),
    sa.Column("width", sa.Integer),
    sa.Column("height", sa.Integer),
    sa.Column("source_url", sa.Text, comment="the URL these bytes came from"),
    sa.Column("suspect", sa.Text),
    sa.UniqueConstraint("task", "stem", name="assets_identity"),
    sa.CheckConstraint(
        "(name IS NULL) = (key IS NULL) AND (name IS NULL) = (bytes IS NULL) AND (name IS NULL) = (sha256 IS NULL)"
        " AND (name IS NULL) = (content_type IS NULL) AND (name IS NULL) = (source_url IS NULL)",
        name="stored_whole",
    ),
)

folder_work = sa.Table(
    "folder_work",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("task", ROW_ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("kind", sa.Text, nullable=False, comment="amend | incomplete"),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("due_at", sa.BigInteger, nullable=False),
    sa.Column("deadline_at", sa.BigInteger, comment="dropped after it; NULL: never"),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, comment="why the last try failed"),
    sa.Column("document", sa.Text, comment="the answer that named what is amended; NULL: the task's"),
    sa.Column("lease_token", sa.Text),
    sa.Column("lease_until", sa.BigInteger),
    sa.Column("held", sa.Integer, nullable=False, server_default="0", comment="failures that held, in a row"),
    sa.UniqueConstraint("task", "kind", name="folder_work_identity"),
)
sa.Index("folder_work_by_kind", folder_work.c.kind, folder_work.c.since)

amendments = sa.Table(
    "amendments",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("task", ROW_ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("amended_at", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("task", "number", name="amendments_identity"),
)

second_looks = sa.Table(
    "second_looks",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("task", ROW_ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False, unique=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("due_at", sa.BigInteger, nullable=False),
)
sa.Index("second_looks_by_due", second_looks.c.account, second_looks.c.due_at)

trust = sa.Table(
    "trust",
    metadata,
    sa.Column("place", sa.Text, primary_key=True, comment="endpoint and bucket"),
    sa.Column("objects", sa.BigInteger, nullable=False, comment="seen again since the last miss"),
    sa.Column("second_put", sa.Text, comment="what it does with a second create-only put"),
)

missing_objects = sa.Table(
    "missing_objects",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("task", ROW_ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False, comment="of MissingState"),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("due_at", sa.BigInteger, comment="of its second HEAD"),
    sa.Column("restored_at", sa.BigInteger, comment="when it was put back: that is done once"),
    sa.Column("reason", sa.Text, comment="why it cannot be had again"),
    sa.Column(
        "problem_since",
        sa.BigInteger,
        comment="from when on it is a problem; NULL: it is none, or acknowledged",
    ),
    sa.UniqueConstraint("task", "key", name="missing_objects_identity"),
)
_partial(
    "missing_objects_doubted",
    missing_objects.c.account,
    missing_objects.c.due_at,
    where=missing_objects.c.state == sa.literal_column("'doubted'"),
)
_partial(
    "missing_objects_unsettled",
    missing_objects.c.account,
    missing_objects.c.problem_since,
    where=missing_objects.c.problem_since.is_not(None),
)

forwards = sa.Table(
    "forwards",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("task", ROW_ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False, comment="operator | client"),
    sa.Column("consumer", sa.Text, nullable=False, comment="origin of a client's URL; '' for the operator's"),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False, comment="of the amendment, else 0"),
    sa.Column("webhook_id", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column(
        "document", sa.Text, comment="the API's own object, as JSON; NULL: the bucket or the task has it"
    ),
    sa.Column("queued_at", sa.BigInteger, nullable=False),
    sa.Column("due_at", sa.BigInteger, comment="NULL: ended"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0", comment="the running one included"),
    sa.Column("last_status", sa.Integer, comment="HTTP status of the last answer"),
    sa.Column("reason", sa.Text, comment="why the last try failed"),
    sa.Column("lease_token", sa.Text),
    sa.Column("lease_until", sa.BigInteger),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("unseen_since", sa.BigInteger, comment="since when it is dead; NULL: acknowledged"),
    sa.Column(
        "facts",
        sa.Text,
        comment="of the task when it was queued, as JSON: reason, message, stems of stored files",
    ),
    sa.UniqueConstraint("task", "target", "event", "number", name="forwards_identity"),
    sa.CheckConstraint("state IN ('waiting', 'delivered', 'dead')", name="forward_state_known"),
    sa.CheckConstraint(
        "(state = 'waiting') = (due_at IS NOT NULL) AND (state = 'waiting') = (ended_at IS NULL)",
        name="forward_waits_or_ended",
    ),
    sa.CheckConstraint("(lease_token IS NULL) = (lease_until IS NULL)", name="forward_lease_whole"),
)
_partial(
    "forwards_due",
    forwards.c.consumer,
    forwards.c.due_at,
    where=forwards.c.state == sa.literal_column("'waiting'"),
)
_partial("forwards_waiting", forwards.c.queued_at, where=forwards.c.state == sa.literal_column("'waiting'"))
for _state in ("delivered", "dead"):
    _partial(
        f"forwards_{_state}", forwards.c.ended_at, where=forwards.c.state == sa.literal_column(f"'{_state}'")
    )
_partial(
    "forwards_unseen",
    forwards.c.account,
    forwards.c.unseen_since,
    where=forwards.c.unseen_since.is_not(None),
)

forward_counts = sa.Table(
    "forward_counts",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column(
        "forwards", sa.BigInteger, nullable=False, comment="how many more, or fewer; the sum is the count"
    ),
)

history = sa.Table(
    "history",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("task", ROW_ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)

holds = sa.Table(
    "holds",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("family", sa.Text, nullable=False, comment="'' for every family"),
    sa.Column("host", sa.Text, nullable=False, comment="'' for every host"),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("what_to_do", sa.Text, nullable=False),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("probe_at", sa.BigInteger, nullable=False),
    sa.Column("probes", sa.Integer, nullable=False, server_default="0", comment="in a row, without success"),
    sa.Column("probed_at", sa.BigInteger, comment="when the last probe began"),
    sa.Column(
        "seen_by_look", sa.Boolean, nullable=False, server_default=sa.false(), comment="a look may end it"
    ),
    sa.UniqueConstraint("account", "stage", "family", "host", name="holds_identity"),
)

doubts = sa.Table(
    "doubts",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("stage", sa.Text, primary_key=True),
    sa.Column("family", sa.Text, primary_key=True, comment="'' for every family"),
    sa.Column("since", sa.BigInteger, nullable=False),
)

passed_over = sa.Table(
    "passed_over",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("queue", sa.Text, primary_key=True),
    sa.Column("due_at", sa.BigInteger, nullable=False),
    sa.Column("task", ROW_ID, nullable=False),
)

sweeps = sa.Table(
    "sweeps",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("family", sa.Text, primary_key=True),
    sa.Column("last_success_at", sa.BigInteger),
    sa.Column("last_full_at", sa.BigInteger),
    sa.Column("last_page", sa.Integer, comment="the last page with rows, where the list runs oldest first"),
    sa.Column("oldest_first", sa.Boolean, nullable=False),
    sa.Column(
        "page_rows", sa.Integer, comment="that the API can answer with at a time; NULL: the most there can be"
    ),
    sa.Column("missed_callbacks", sa.BigInteger, nullable=False),
    sa.Column("lease_token", sa.Text),
    sa.Column("lease_until", sa.BigInteger),
)

daemons = sa.Table(
    "daemons",
    metadata,
    sa.Column("id", sa.Text, key="name", primary_key=True),  # its older name
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
    sa.Column("serves", sa.Text, nullable=False, server_default='["door", "work"]', comment="as JSON"),
    sa.Column("accounts", sa.Text, nullable=False, server_default="[]", comment="as JSON"),
    sa.Column("leases", sa.Integer, nullable=False, server_default="0", comment="that it holds on tasks"),
    sa.Column("warnings", sa.Text, nullable=False, server_default="[]", comment="problems, as JSON"),
    sa.Column("left_at", sa.BigInteger, comment="when it ended in good order"),
    sa.Column("pid_namespace", sa.Text, comment="where pid counts"),
    sa.Column(
        "worked", sa.Text, nullable=False, server_default="{}", comment="when it last succeeded at what"
    ),
)

askers = sa.Table(
    "askers",
    metadata,
    sa.Column("name", sa.Text, primary_key=True, comment="as in daemons"),
    sa.Column("accounts", sa.Text, nullable=False, comment="that its settings name, as JSON"),
    sa.Column("keeps_up", sa.Boolean, nullable=False, comment="whether it may have the upkeep"),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
)

duties = sa.Table(
    "duties",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True, comment="ask | upkeep"),
    sa.Column("account", sa.Text, primary_key=True, comment="'' for the upkeep"),
    sa.Column("holder", sa.Text, comment="the last one"),
    sa.Column("lease_token", sa.Text),
    sa.Column("lease_until", sa.BigInteger, nullable=False, comment="or since when nobody has it"),
    sa.Column("clock_sound_at", sa.BigInteger, comment="when the API's clock last agreed with the ledger's"),
)

sweep_requests = sa.Table(
    "sweep_requests",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("family", sa.Text, nullable=False),
    sa.Column("is_full", sa.Boolean, nullable=False, comment="whatever is due"),
    sa.Column("requested_at", sa.BigInteger, nullable=False),
    sa.Column("counts", sa.Text, comment="so far, as JSON"),
    sa.Column("failure", sa.Text, comment="as JSON"),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("dry_run_of", sa.Text, comment="the families of a dry run, a comma list"),
)

gateway_creates = sa.Table(
    "gateway_creates",
    metadata,
    sa.Column("reference", sa.Text, primary_key=True, comment="stands in the callback URL"),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("family", sa.Text, nullable=False),
    sa.Column("external_task_id", sa.Text),
    sa.Column("client_callback_url", sa.Text, comment="NULL: nobody is to be told"),
    sa.Column("request", sa.Text, comment="what was asked for, as JSON"),
    sa.Column("state", sa.Text, nullable=False, comment="open | abandoned"),
    sa.Column("created_at", sa.BigInteger, nullable=False),
)
sa.Index("gateway_creates_by_age", gateway_creates.c.created_at)

forgotten = sa.Table(
    "forgotten",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("task_id", sa.Text, primary_key=True),
    sa.Column("external_task_id", sa.Text),
    sa.Column("family", sa.Text, comment="NULL: the API had not confirmed it"),
    sa.Column("created_at", sa.BigInteger, comment="of the task; NULL as its family"),
    sa.Column("forgotten_at", sa.BigInteger, nullable=False),
)
_partial(
    "forgotten_by_external",
    forgotten.c.account,
    forgotten.c.external_task_id,
    where=forgotten.c.external_task_id.is_not(None),
)

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("problem", sa.Text, nullable=False, comment="as JSON"),
    sa.Column("began_at", sa.BigInteger, nullable=False),
    sa.Column("is_told", sa.Boolean, nullable=False),
)

alert_messages = sa.Table(
    "alert_messages",
    metadata,
    sa.Column("id", sa.Text, primary_key=True, comment="the webhook-id"),
    sa.Column("number", sa.Integer, nullable=False, comment="their order"),
    sa.Column("key", sa.Text, nullable=False, comment="of the problem"),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("made_at", sa.BigInteger, nullable=False),
    sa.Column("due_at", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
)

named_values = sa.Table(
    "facts",  # its older name
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

schema_uses = sa.Table(
    "schema_uses",
    metadata,
    sa.Column("revision", sa.Text, primary_key=True),
    sa.Column("oldest", sa.Text, nullable=False, comment="revision that a program must know at least"),
)
