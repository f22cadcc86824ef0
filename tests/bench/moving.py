"""How fast `move-ledger` is, and how much memory it needs: `python -m tests.bench.moving [TASKS]`.

One ledger is moved from SQLite to PostgreSQL and back, each time by a process of its own. Not part of `make bench`: a
million tasks take minutes.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from archiver.ledger import Ledger
from tests.postgres import running_postgres

TASKS = 1_000_000
_COLUMNS = (
    "account, task_id, family, result_arrays, state, attempts, held, created_at, created_at_from, updated_at,"
    " deadline_at, first_seen_at, confirmed_at, asked_at, asked, ask_singly, discovered_by, callbacks,"
    " callback_status, last_callback_at, document, request, manifest_key, archived_at"
)
_TASKS = f"""
INSERT INTO tasks ({_COLUMNS})
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :tasks)
SELECT 'default', printf('8%015d', n), 'images/generations', '', 'archived', 1, 0, :now + n, 'api', :now + n + 24000,
  :now + n + 2592000000, :now + n, :now + n, :now + n, 0, 0, 'callback', 2, 'succeed', :now + n,
  '{{"task_id": "8' || printf('%015d', n) || '", "task_status": "succeed"}}',
  '{{"prompt": "' || substr(hex(randomblob(200)), 1, 300) || ' \\u72d0"}}',
  'kling/images/generations/2026/09/21/8' || printf('%015d', n) || '/manifest.json', :now + n + 30000
FROM numbers
"""  # noqa: S608 -- constants
_OTHERS = (
    """
INSERT INTO assets
  (task, stem, role, api_index, watermarked, url, name, key, bytes, sha256, content_type, width, height, source_url)
SELECT id, '0', 'image', 0, 0, '', '0.png', 'kling/images/generations/2026/09/21/' || task_id || '/0.png', 1512345,
  lower(hex(randomblob(32))), 'image/png', 1024, 1024, '' FROM tasks
""",
    *(
        f"INSERT INTO history (task, at, event, detail) SELECT id, created_at, 'task.{event}', 'succeeded' FROM tasks"  # noqa: S608 -- constants
        for event in ("reported", "recorded", "archived")
    ),
)


def main() -> None:
    """Print a line for each way."""
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else TASKS
    with tempfile.TemporaryDirectory() as name, running_postgres() as server:
        file = f"sqlite:///{pathlib.Path(name) / 'ledger.db'}"
        _fill(file, tasks)
        database = server.url(server.create_database())
        for source, target in ((file, database), (database, file)):
            _report(source, target, tasks)


def _fill(url: str, tasks: int) -> None:
    ledger = Ledger.open(url, daemon=True)
    with ledger.database.write() as connection:
        for statement in (_TASKS, *_OTHERS):
            connection.exec_driver_sql(statement, {"tasks": tasks, "now": 1_790_000_000_000})
    ledger.close()


def _report(source: str, target: str, tasks: int) -> None:
    command = [sys.executable, "-m", "archiver", "move-ledger", source, target, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    moved = json.loads(output)
    way = f"{source.partition(':')[0]} to {target.partition(':')[0]}"
    sys.stdout.write(
        f"{way}: {tasks:,} tasks, {moved['rows']:,} rows in {moved['seconds']:.0f} s,"
        f" {moved['rows'] / moved['seconds']:,.0f} rows/s, at most {usage.ru_maxrss / 1024:.0f} MiB\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
