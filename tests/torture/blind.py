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
from collections.abc import Callable, Mapping
from typing import Any

from tests.harness.daemons import Daemon, Site, until
from tests.s3_servers import RcloneServer, S3Server, running
from tests.torture.figures import Figure
from tests.torture.options import Options
from tests.torture.troubles import HOLD, TROUBLES, Said, Stage, Trouble

PATIENCE_SECONDS = 150
"""What has not been said by then counts as never said."""
TOGETHER = 4
"""Daemons at a time: more would wait for the processor rather than for the outage."""
CALLBACKS = 12
"""More than any rule counts in a row."""


def measure(options: Options) -> list[Figure]:
    """Two figures for each trouble; never is NaN."""
    figures: list[Figure] = []
    with running(RcloneServer) as server, concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
        suffered = [
            pool.submit(_suffer, trouble, options.folder / str(number), server)
            for number, trouble in enumerate(TROUBLES)
        ]
        for done, (trouble, future) in enumerate(zip(TROUBLES, suffered, strict=True), start=1):
            for witness, seconds in future.result().items():
                figures.append(
                    Figure(f"{trouble.name}: {witness}, seconds", seconds, maximum=trouble.seconds_max)
                )
            options.on_progress(done, len(TROUBLES))
    return figures


def _suffer(trouble: Trouble, folder: pathlib.Path, server: S3Server) -> Mapping[str, float]:
    """Witness → seconds until it said what it had to say."""
    folder.mkdir()
    with contextlib.ExitStack() as opened, Site(folder, server, KLING_QUERY_RATE_PER_SECOND="10") as site:
        stage = Stage(site, opened)
        trouble.arrange(stage)
        began = time.monotonic()
        daemon = site.start(without=stage.without, prefix=stage.prefix)
        daemon.wait_ready()
        if stage.begin is not None:
            until(lambda: _status(site)[0] == 0, what=f"a daemon that is well before {trouble.name}")
            began = time.monotonic()
            stage.begin(daemon)
        if trouble.has_task:
            for _ in range(CALLBACKS):
                site.call_back(site.create_task())
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
    if said.code == "door_closed":
        return found[0] == 503
    return any(_is_said(entry, said) for entry in found[1].get("degraded", ()))


def _is_said(entry: Mapping[str, Any], said: Said) -> bool:
    is_reason = not said.reason or entry.get("reason") == said.reason
    return entry.get("code", HOLD) == said.code and is_reason


def _status_says(site: Site, said: Said) -> bool:
    status, found = _status(site)
    codes = {problem["code"] for problem in found.get("problems", ()) if isinstance(problem, dict)}
    reasons = {hold["reason"] for hold in found.get("holds", ())}
    return status == 1 and said.code in codes and (not said.reason or said.reason in reasons)


def _status(site: Site) -> tuple[int, Mapping[str, Any]]:
    """Exit status and content of `status --check --json`."""
    ended = subprocess.run(
        [sys.executable, "-m", "archiver", "status", "--check", "--json"],
        env=site.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return ended.returncode, json.loads(ended.stdout) if ended.stdout.startswith("{") else {}
