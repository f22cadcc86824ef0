"""The daemon as its users run it: a process, with a real S3 server and a simulated account, on free ports of loopback.

Two rules:

1. A test waits for something visible from outside (an answer of `/readyz`, a row, an object, an exit), with a deadline
   that only a broken daemon reaches. Nothing here sleeps for a time and hopes.
2. Every process belongs to the `Site` that started it, and ends with it, also when the tests are killed.
"""

import contextlib
import json
import math
import os
import pathlib
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx2

from archiver.ledger import Ledger
from archiver.model import State, task_folder
from tests.harness.forked import INHERITED, ForkedProcess, can_fork, fork
from tests.harness.repository import ROOT
from tests.project.secret_watch import WATCH
from tests.s3_servers import S3Server
from tests.s3_servers.process import free_port
from tests.simulator import CallbackUndelivered, KlingSimulator

FAMILY = "images/generations"
TOKEN = "callback-token-0123456789abcdef"
PATIENCE_SECONDS = 120.0
"""Only what is broken takes so long, on any machine."""


def until(condition: Callable[[], object], *, seconds: float = PATIENCE_SECONDS, what: str = "") -> None:
    """Return once `condition` holds: another process offers nothing else to wait on."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.02)


class Daemon:
    """One process of `kling-receiver`, or of another program; its output lands in `log_path`, of which there is one for
    each start."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        log_path: pathlib.Path,
        prefix: Sequence[str] = (),
        program: Sequence[str] = ("receiver",),
    ) -> None:
        """`prefix` is a command that ends by becoming the one that follows it; `program` a module and arguments."""
        self.url = f"http://127.0.0.1:{environment.get('KLING_PORT', '8080')}"
        WATCH.environment(environment)
        WATCH.door(self.url)
        self.log_path = log_path
        self._process: ForkedProcess | subprocess.Popen[bytes]
        with log_path.open("wb") as output:
            if not prefix and can_fork(program, environment):
                self._process = fork(program, environment=environment, output=output.fileno())
                return
            # The kernel ends it when the tests die without saying goodbye.
            leash = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
            self._process = subprocess.Popen(
                [*leash, *prefix, sys.executable, "-W", "error", "-m", *program],
                cwd=ROOT,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def output(self) -> str:
        return self.log_path.read_text(errors="replace")

    def events(self, event: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        lines = [line for line in self.output.splitlines() if line.startswith("{") and line.endswith("}")]
        return [fields for fields in map(json.loads, lines) if fields["event"] == event]

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def readyz(self) -> tuple[int, dict[str, Any]] | None:
        """Status and content of `/readyz`; None without an answer."""
        try:
            answer = httpx2.get(f"{self.url}/readyz", trust_env=False, timeout=20.0)
        except httpx2.TransportError:
            return None
        return answer.status_code, answer.json()

    def ask_metrics(self) -> None:
        """Request the metrics; nothing happens if the daemon is gone or does not answer."""
        with contextlib.suppress(httpx2.TransportError):
            httpx2.get(f"{self.url}/metrics", trust_env=False, timeout=2.0)

    def wait_ready(self) -> None:
        def ready_or_dead() -> bool:
            assert self.is_running, self.output
            found = self.readyz()
            return found is not None and found[0] == 200

        until(ready_or_dead, what=f"/readyz of {self.url}")

    def holds(self) -> list[dict[str, Any]]:
        """The holds that `/readyz` tells of."""
        return [problem for problem in self.degraded() if problem["code"] == "hold"]

    def degraded(self) -> list[dict[str, Any]]:
        """What `/readyz` calls degraded."""
        found = self.readyz()
        return [] if found is None else list(found[1]["degraded"])

    def wait_hold(self, stage: str, reason: str) -> dict[str, Any]:
        """The hold of this stage and reason, once it is there."""

        def matching() -> list[dict[str, Any]]:
            return [hold for hold in self.holds() if (hold["stage"], hold["reason"]) == (stage, reason)]

        until(matching, what=f"the hold {reason} of {stage}")
        return matching()[0]

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Not one of its threads takes a step meanwhile: what lies on the disk is what a snapshot would show."""
        self.send_signal(signal.SIGSTOP)
        try:
            until(self._is_frozen, what="every thread to stand still")
            yield
        finally:
            self.send_signal(signal.SIGCONT)

    def _is_frozen(self) -> bool:
        """By the states that Linux tells: `T` is stopped."""
        threads = pathlib.Path(f"/proc/{self._process.pid}/task").glob("*/stat")
        return all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)

    def wait(self, *, seconds: float = PATIENCE_SECONDS) -> int:
        """The exit status."""
        return self._process.wait(seconds)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.terminate()
        return self.wait()


class Site:
    """A folder with a ledger and a spool, an account, a bucket, and the daemons that were started for them."""

    def __init__(
        self, folder: pathlib.Path, s3: S3Server, *, bucket: str | None = None, **settings: str
    ) -> None:
        """`bucket` need not be there; by default a fresh one is made. `settings` are more environment variables."""
        self.folder = folder
        self.spool = folder / "spool"
        self.spool.mkdir()
        self.s3 = s3
        self.sim = KlingSimulator()
        self.bucket = bucket or s3.create_bucket()
        self.port = free_port()
        self.daemons: list[Daemon] = []
        self.environment = {
            **{name: os.environ[name] for name in INHERITED if name in os.environ},
            **s3.environment(self.bucket),
            "KLING_ACCESS_KEY": self.sim.access_key,
            "KLING_SECRET_KEY": self.sim.secret_key,
            "KLING_BASE_URL": self.sim.base_url,
            "KLING_FAMILIES": FAMILY,
            "KLING_ASSET_HOSTS": self.sim.origin,
            "KLING_CALLBACK_TOKEN": TOKEN,
            "KLING_LEDGER_URL": f"sqlite:///{folder}/ledger.db",
            "KLING_SPOOL_DIR": str(self.spool),
            "KLING_PORT": str(self.port),
            "KLING_QUERY_RATE_PER_SECOND": "100",
            "KLING_SWEEP_INTERVAL_SECONDS": "300",
            "KLING_DRAIN_SECONDS": "0",
            "KLING_LOG_FORMAT": "json",
            "KLING_LOG_LEVEL": "debug",
            **settings,
        }

    def __enter__(self) -> Self:
        self.sim.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for daemon in self.daemons:
            if daemon.is_running:
                daemon.ask_metrics()
            daemon.kill()
            WATCH.said("output of a daemon", daemon.output)
            WATCH.close_door(daemon.url)
        self.sim.__exit__(kind, error, trace)

    def start(
        self,
        changes: Mapping[str, str] | None = None,
        *,
        without: tuple[str, ...] = (),
        prefix: Sequence[str] = (),
        program: Sequence[str] = ("receiver",),
    ) -> Daemon:
        """A daemon with this site's settings, some changed or left out. Does not wait for it."""
        settings = {**self.environment, **(changes or {})}
        environment = {name: value for name, value in settings.items() if name not in without}
        log_path = self.folder / f"daemon-{len(self.daemons)}.log"
        daemon = Daemon(environment, log_path=log_path, prefix=prefix, program=program)
        self.daemons.append(daemon)
        return daemon

    # --- what comes in ------------------------------------------------------------------------------------

    @property
    def callback_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/callbacks/{TOKEN}/{FAMILY}"

    def create_task(self, **task: Any) -> str:
        """Create a task that has succeeded and whose callback was not sent; its id."""
        task_id = self.sim.create_task(**task)
        self.sim.succeed(task_id)
        return task_id

    def call_back(self, task_id: str, *, status: str = "succeed") -> int | None:
        """Post the callback; the HTTP status, or None without an answer."""
        body = {"task_id": task_id, "task_status": status, "task_info": {}}
        try:
            return self.sim.post_callback(self.callback_url, body).status_code
        except CallbackUndelivered:
            return None

    # --- what comes out -----------------------------------------------------------------------------------

    def keys(self) -> set[str]:
        """Everything in the bucket."""
        pages = self.s3.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {row["Key"] for page in pages for row in page.get("Contents", [])}

    def content(self, key: str) -> bytes:
        return self.s3.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def folder_of(self, task_id: str) -> str:
        task = self.sim.task(task_id)
        return task_folder(prefix="", family=task.family.path, created_at=task.created_at, task_id=task_id)

    def wait_archived(self, *task_ids: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Return once each of these has its manifest and is `archived` in the ledger, which comes a moment later."""
        self.wait_manifests(*task_ids, seconds=seconds)
        self.wait_archived_in_ledger("default", *task_ids)

    def wait_manifests(self, *task_ids: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Return once each of these has its manifest, which the ledger may not know yet."""
        manifests = {f"{self.folder_of(task_id)}manifest.json" for task_id in task_ids}
        until(lambda: manifests <= self.keys(), seconds=seconds, what=f"{len(manifests)} manifests")

    def wait_archived_in_ledger(self, account: str, *task_ids: str) -> None:
        """Return once each of these tasks of the account is `archived` in the ledger."""
        with self.ledger() as ledger:

            def archived() -> bool:
                states = ledger.records.states(account=account, task_ids=task_ids)
                return all(states.get(task_id) is State.ARCHIVED for task_id in task_ids)

            until(archived, what=f"{len(task_ids)} archived tasks of {account}")

    def assert_archived(self, *task_ids: str) -> None:
        """Exactly these tasks lie in the bucket: every file once, the right bytes, under a manifest that names them."""
        expected = {
            f"{self.folder_of(task_id)}{name}"
            for task_id in task_ids
            for name in [*self.sim.expected_names(task_id), "manifest.json"]
        }
        assert self.keys() == expected
        for task_id in task_ids:
            folder = self.folder_of(task_id)
            names = self.sim.expected_names(task_id)
            manifest = json.loads(self.content(f"{folder}manifest.json"))
            assert (manifest["task_id"], [asset["name"] for asset in manifest["assets"]]) == (task_id, names)
            for name in names:
                assert self.content(f"{folder}{name}") == self.sim.expected_bytes(task_id, name)

    def show(self, task_id: str) -> dict[str, Any] | None:
        """The task's row as `show` prints it; None when there is none, or no ledger yet."""
        with self.ledger() as ledger:
            task = ledger.views.show(task_id, account="default")
        return None if task is None else task.as_json()

    def leases(self) -> int:
        """How many tasks were leased when the daemon was killed; 0 if it had no tables yet."""
        query = "SELECT count(*) FROM tasks WHERE lease_token IS NOT NULL"
        with contextlib.closing(sqlite3.connect(self.folder / "ledger.db")) as connection:
            try:
                (count,) = connection.execute(query).fetchone()
            except sqlite3.OperationalError:
                return 0
        return int(count)

    @contextlib.contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The ledger, opened beside the daemon as a command does; made where the daemon has not got that far."""
        opened = Ledger.open(self.environment["KLING_LEDGER_URL"], daemon=False, create=True)
        try:
            yield opened
        finally:
            opened.close()

    def assert_silent_on_secrets(self) -> None:
        """No daemon has written a secret, a token or the query of a signed URL anywhere in its output."""
        output = "".join(daemon.output for daemon in self.daemons)
        secrets = [
            value
            for name, value in self.environment.items()
            if re.search("KEY|TOKEN|SECRET", name) and not name.endswith("_FILE")
        ]
        leaked = [secret for secret in secrets if secret in output]
        leaked += re.findall(r"eyJ[\w-]+\.[\w-]+", output)
        leaked += re.findall(r"\?[\w-]*(?:cacheKey|kcdn|Expires|Signature|ksTime)[^\s\"]*", output)
        assert leaked == []
        assert "Traceback" not in output


class Load:
    """Callbacks from several threads until it is stopped: new tasks, repeats, and lies about tasks that run."""

    def __init__(self, site: Site, *, threads: int = 3, seed: int = 0, tasks_most: float = math.inf) -> None:
        """After `tasks_most` tasks there are only repeats and lies: a slow machine is not given more to count."""
        self.created: list[str] = []
        self.answered_200: list[str] = []
        """The task of each callback that was answered 200."""
        self._site = site
        self._tasks_most = tasks_most
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(f"{seed}/{number}"),))
            for number in range(threads)
        ]

    @property
    def acknowledged(self) -> set[str]:
        """Tasks of which a callback was answered 200."""
        return set(self.answered_200)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Return once no callback is on its way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, choose: random.Random) -> None:
        while not self._stop.wait(choose.uniform(0.05, 0.3)):
            is_new = not self.created or choose.random() < 0.6
            if is_new and len(self.created) < self._tasks_most:
                task_id = self._site.create_task(
                    images=choose.choice([1, 2]), watermark=choose.random() < 0.5
                )
                # Only its callback can bring it: what a kill costs is then not made good by the sweep.
                self._site.sim.hide_from_list(task_id)
                self.created.append(task_id)
            else:
                task_id = choose.choice(self.created)
            answered = self._site.call_back(task_id, status=choose.choice(["processing", "succeed"]))
            if answered == 200:
                self.answered_200.append(task_id)
