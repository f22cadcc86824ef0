"""How many seconds pass until `status --check` and `/readyz` say what stops the work, for each of `troubles`.

On real daemons, each with a ledger, an account and a bucket of its own. Seconds count from the daemon's start, or from
the moment when the trouble begins; callbacks come in then, unless the account stays empty.
"""

import concurrent.futures
import contextlib
import json
import math
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.harness.daemons import Daemon, Site, until
from tests.postgres import PostgresServer, running_postgres
from tests.s3_servers import RcloneServer, S3Server, running
from tests.torture.figures import Figure
from tests.torture.options import Options
from tests.torture.troubles import HOLD, TROUBLES, Said, Stage, Trouble
from tests.torture.troubles_of_postgres import TROUBLES_ON_POSTGRES

PATIENCE_SECONDS = 150
"""What has not been said by then counts as never said."""
TOGETHER = 4
"""Daemons at a time: more would wait for the processor rather than for the outage."""
REFUSED = 2
"""Exit status of a command that cannot use its ledger with these settings."""
CALLBACKS = 12
"""More than any rule counts in a row."""


def measure(options: Options) -> list[Figure]:
    """Two figures for each trouble; never is NaN."""
    return _measure(options, TROUBLES, None)


def measure_on_postgresql(options: Options) -> list[Figure]:
    """The same with each ledger in a database of its own, and what stops PostgreSQL."""
    with running_postgres() as server:
        return _measure(options, TROUBLES_ON_POSTGRES, server)


def _measure(options: Options, troubles: Sequence[Trouble], postgres: PostgresServer | None) -> list[Figure]:
    figures: list[Figure] = []
    with running(RcloneServer) as server, concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
        suffered = [
            pool.submit(_suffer, trouble, options.folder / str(number), server, postgres)
            for number, trouble in enumerate(troubles)
        ]
        for done, (trouble, future) in enumerate(zip(troubles, suffered, strict=True), start=1):
            for witness, seconds in future.result().items():
                figures.append(
                    Figure(f"{trouble.name}: {witness}, seconds", seconds, maximum=trouble.seconds_max)
                )
            options.on_progress(done, len(troubles))
    return figures


def _suffer(
    trouble: Trouble, folder: pathlib.Path, server: S3Server, postgres: PostgresServer | None
) -> Mapping[str, float]:
    """Witness → seconds until it said what it had to say."""
    folder.mkdir()
    with contextlib.ExitStack() as opened, Site(folder, server, KLING_QUERY_RATE_PER_SECOND="10") as site:
        stage = Stage(site, opened, postgres)
        if postgres is not None:
            stage.set(KLING_LEDGER_URL=postgres.url(postgres.create_database()))
        trouble.arrange(stage)
        began = time.monotonic()
        daemon = site.start(without=stage.without, prefix=stage.prefix)
        daemon.wait_ready()
        if stage.begin is not None:
            until(lambda: _status(site)[0] == 0, what=f"a daemon that is well before {trouble.name}")
            began = time.monotonic()
            stage.begin(daemon)
        if trouble.has_task:
            # A ledger that hangs costs each callback seconds.
            all(site.call_back(site.create_task()) == 200 for _ in range(CALLBACKS))
        try:
            return _watch(trouble, site, daemon, began=began)
        finally:
            daemon.send_signal(signal.SIGCONT)


def _watch(trouble: Trouble, site: Site, daemon: Daemon, *, began: float) -> Mapping[str, float]:
    witnesses: dict[str, Callable[[], bool]] = {"status --check": lambda: _status_says(site, trouble.said)}
    if trouble.has_door:
        witnesses["/readyz"] = lambda: _readyz_says(daemon, trouble.said)
    seconds = dict.fromkeys(witnesses, math.nan)
    while time.monotonic() - began < PATIENCE_SECONDS:
        for witness, says in witnesses.items():
            if math.isnan(seconds[witness]) and says():
                seconds[witness] = time.monotonic() - began
        if not any(math.isnan(value) for value in seconds.values()):
            break
        time.sleep(0.5)
    return seconds


def _readyz_says(daemon: Daemon, said: Said) -> bool:
    found = daemon.readyz()
    if found is None:
        return False
    if said.code == "door_closed" and found[0] != 503:
        return False
    return any(_is_said(entry, said) for entry in found[1].get("degraded", ()))


def _is_said(entry: Mapping[str, Any], said: Said) -> bool:
    is_reason = not said.reason or entry.get("reason") == said.reason
    return entry.get("code", HOLD) == said.code and is_reason and said.advice in entry.get("what_to_do", "")


def _status_says(site: Site, said: Said) -> bool:
    status, found = _status(site)
    if status == REFUSED and said.advice:
        return said.advice in found["refused"]
    return status == 1 and any(_is_said(problem, said) for problem in found.get("problems", ()))


def _status(site: Site) -> tuple[int, Mapping[str, Any]]:
    """Exit status and content of `status --check --json`; in place of the content, why it was `refused`."""
    ended = subprocess.run(
        [sys.executable, "-m", "archiver", "status", "--check", "--json"],
        env=site.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if ended.stdout.startswith("{"):
        return ended.returncode, json.loads(ended.stdout)
    return ended.returncode, {"refused": ended.stderr}
