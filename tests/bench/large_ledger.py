"""A ledger of a million tasks, made by its database in a minute: to record as many answers of the API would take hours.

Nearly all are archived, as in a ledger that is years old. A few of each other state are young. One account has 97 of
100 tasks, and nineteen share the rest.
"""

from archiver.ledger import Ledger
from archiver.ledger.tables import schema

TASKS = 1_000_000
FLOOD = 300_000
ACCOUNT, SMALL_ACCOUNT = "default", "shop-7"

_NUMBERS = (
    "WITH RECURSIVE numbers(n) AS"
    " (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM numbers WHERE n < :tasks)"
)
_ACCOUNT = f"CASE WHEN n % 33 = 0 THEN 'shop-' || CAST(n / 33 % 19 AS TEXT) ELSE '{ACCOUNT}' END"
_FAMILY = (
    "CASE n % 7 WHEN 0 THEN 'videos/text2video' WHEN 1 THEN 'videos/image2video' WHEN 2 THEN 'images/omni-image'"
    " ELSE 'images/generations' END"
)
_REQUEST = (
    "'{\"prompt\": \"a ' || CASE n % 5 WHEN 0 THEN 'fox' WHEN 1 THEN 'cat' ELSE 'heron' END ||"
    " ' in the snow, number ' || CAST(n AS TEXT) || ', in the style of an old engraving, with a long and quiet"
    " description that says what the light does and how far away the trees are\\u72d0\"}'"
)
_STATE = (
    "CASE WHEN n <= 300 THEN 'running' WHEN n <= 600 THEN 'succeeded' WHEN n % 40 = 0 THEN 'failed'"
    " WHEN n % 2000 = 1 THEN 'lost' ELSE 'archived' END"
)
_MADE = f"""
{_NUMBERS}, made AS (
  SELECT n, {_ACCOUNT} AS account, {_FAMILY} AS family, {_STATE} AS state, :now - n * 30000 AS created_at,
    {_REQUEST} AS request FROM numbers)
"""  # noqa: S608 -- constants
_TASKS = f"""
INSERT INTO tasks (account, task_id, external_task_id, family, family_hint, result_arrays, state, queue, reason,
  attempts, held, due_at, created_at, created_at_from, updated_at, deadline_at, first_seen_at, confirmed_at, asked_at,
  asked, ask_singly, discovered_by, callbacks, callback_status, last_callback_at, asset_host, document, request,
  manifest_key, archived_at, succeeded_at, unseen_since, client_callback_url)
{_MADE}
SELECT account, CAST(800000000000000 + n AS TEXT), CASE WHEN n % 3 = 0 THEN 'order-' || CAST(n AS TEXT) END, family,
  family, '', state, CASE state WHEN 'running' THEN 'verify' WHEN 'succeeded' THEN 'archive' WHEN 'lost' THEN 'archive'
  END, CASE state WHEN 'lost' THEN 'asset_gone' WHEN 'failed' THEN 'task_failed' END, 1, 0,
  CASE WHEN state IN ('running', 'succeeded') THEN :now + 600000 WHEN state = 'lost' THEN :now + 50000000 END,
  created_at, 'api', created_at + 24000, created_at + 2592000000, created_at, created_at + 100, created_at + 24000, 0,
  false, 'callback', 2, 'succeed', created_at + 24000,
  CASE WHEN state IN ('succeeded', 'lost') THEN 's15-kling.klingai.com' END, '{{}}', request,
  CASE state WHEN 'archived' THEN 'kling/' || family || '/' || CAST(n AS TEXT) || '/manifest.json' END,
  CASE state WHEN 'archived' THEN created_at + 30000 END, CASE state WHEN 'succeeded' THEN created_at + 24000 END,
  CASE state WHEN 'lost' THEN created_at + 2592000000 END, NULL
FROM made
"""  # noqa: S608 -- constants
_ASSETS = """
INSERT INTO assets
  (task, stem, role, api_index, watermarked, url, name, key, bytes, sha256, content_type, width, height, source_url)
SELECT id, '0', 'image', 0, false, '', '0.png', 'kling/' || task_id || '/0.png', 1512345,
  '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08', 'image/png', 1024, 1024, ''
FROM tasks WHERE state = 'archived'
"""
_HISTORY = """
INSERT INTO history (task, at, event, detail) SELECT id, created_at, 'task.recorded', 'succeeded' FROM tasks
WHERE confirmed_at IS NOT NULL
"""
_FORWARDS = """
INSERT INTO forwards (task, account, target, consumer, event, number, webhook_id, state, queued_at, due_at, attempts,
  ended_at, unseen_since)
SELECT id, account, 'operator', '', 'archived', 0, 'fwd_' || task_id,
  CASE WHEN id % 500 = 0 THEN 'dead' ELSE 'delivered' END, archived_at, NULL, 1, archived_at + 100,
  CASE WHEN id % 500 = 0 THEN archived_at + 100 END
FROM tasks WHERE state = 'archived' AND id % 3 = 0
"""
_FLOOD = f"""
INSERT INTO tasks (account, task_id, family_hint, result_arrays, state, queue, reason, attempts, held, due_at,
  deadline_at, first_seen_at, named_at, confirmed_at, asked, ask_singly, discovered_by, callbacks, callback_status,
  last_callback_at, not_found_since, unseen_since, set_aside_for)
{_NUMBERS}
SELECT '{ACCOUNT}', 'forged-' || CAST(n AS TEXT), CASE WHEN n % 4 < 3 THEN {_FAMILY} END, '',
  CASE n % 3 WHEN 0 THEN 'reported' WHEN 1 THEN 'unknown' ELSE 'buried' END, 'inquire',
  CASE n % 3 WHEN 2 THEN 'api_answer_unreadable' END, n % 5, 0, :now + CASE n % 3 WHEN 0 THEN -60000 ELSE 86400000
  END - n, :now + 2592000000 - n, :now - n, :now - n, NULL, 0, false, 'callback', 1, 'succeed', :now - n,
  CASE n % 3 WHEN 1 THEN :now - n END, CASE n % 3 WHEN 2 THEN :now END,
  CASE n % 3 WHEN 2 THEN 'api_answer_unreadable' END
FROM numbers
"""  # noqa: S608 -- constants
_COUNTS = (
    "DELETE FROM task_counts",
    (
        "INSERT INTO task_counts (account, state, is_confirmed, tasks)"
        " SELECT account, state, confirmed_at IS NOT NULL, count(*) FROM tasks GROUP BY 1, 2, 3"
    ),
    "DELETE FROM forward_counts",
    "INSERT INTO forward_counts (state, forwards) SELECT state, count(*) FROM forwards GROUP BY 1",
)


def fill(ledger: Ledger, *, tasks: int = TASKS) -> None:
    """An empty ledger gets `tasks` tasks with their files, history and forwards."""
    _run(ledger, (_TASKS, _ASSETS, _HISTORY, _FORWARDS, *_COUNTS), tasks=tasks)


def flood(ledger: Ledger, *, tasks: int = FLOOD) -> None:
    """It gets `tasks` ids that the API has not confirmed: new ones, denied ones and buried ones."""
    _run(ledger, (_FLOOD, *_COUNTS), tasks=tasks)


def analyze(ledger: Ledger) -> None:
    """The database counts what is in its tables, as PostgreSQL's autovacuum does after a minute."""
    with ledger.database.write() as connection:
        for table in (schema.tasks, schema.assets, schema.history, schema.forwards, schema.task_counts):
            connection.exec_driver_sql(f"ANALYZE {table.name}")


def _run(ledger: Ledger, statements: tuple[str, ...], *, tasks: int) -> None:
    now = str(ledger.now())
    with ledger.database.write(seconds_max=float("inf")) as connection:
        for statement in statements:
            # Written in: drivers differ in how they mark values.
            text = statement.replace(":now", now).replace(":tasks", str(tasks))
            connection.exec_driver_sql(text, execution_options={"no_parameters": True})
