"""One demo from start to end: start everything, play the story, watch, check, stop everything.

Everything runs in the main thread, a tick at a time; only the simulated account has threads. So there are no races, and
the children's leash is held by a thread that lives as long as the demo.
"""

import contextlib
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.demo.application import Application
from tests.demo.arrivals import Arrival, Arrivals
from tests.demo.bucket import BUCKET, BucketServer, serving
from tests.demo.check import Checker
from tests.demo.fleet import Fleet, postgres
from tests.demo.folder import DemoFolder
from tests.demo.front import Front, fronting
from tests.demo.plans import FIRST_BATCH, GENERATIONS, HISTORY, LIVE, CreatedTask, Twist, short
from tests.demo.settings import settings_of_application, settings_of_daemon
from tests.demo.stopping import DemoFailed, Interrupted, StopRequest
from tests.demo.story import Story
from tests.demo.summary import rows
from tests.demo.view import Tally, View, count_of, megabytes
from tests.harness.consumer import Consumer, consumer
from tests.s3_servers.process import free_port
from tests.simulator import KlingSimulator, Switches

PROGRESS_SECONDS = (0.3, 0.9)
LEISURELY_PROGRESS_SECONDS = (1.0, 3.0)
QUIET_SECONDS_MAX = 90
"""The longest time without progress while tasks are missing."""
SHARED_ANSWERS_SECONDS = 1.5
"""Half a second more than the gateway shares an answer."""
LINKS_SHOWN = 3
NOTABLE = frozenset(
    {
        "hold.set",
        "hold.released",
        "task.adopted",
        "task.buried",
        "task.lost",
        "task.retried",
        "worker.crashed",
    }
)
"""Log events of the daemon that the demo prints."""


class Performance:
    """Everything that runs. Made by `performing`."""

    def __init__(
        self,
        *,
        folder: DemoFolder,
        server: BucketServer,
        sim: KlingSimulator,
        view: View,
        stop: StopRequest,
        ledger_url: str,
        consumer: Consumer,
        front: Front | None,
    ) -> None:
        """`front` stands before several processes; one daemon needs none."""
        self._folder = folder
        self._server = server
        self._sim = sim
        self._view = view
        self._ledger_place = _short(folder.ledger) if ledger_url.startswith("sqlite") else ledger_url
        self._stop = stop
        self._token, self._admin_token = secrets.token_hex(16), secrets.token_hex(16)
        self._url = url = front.url if front else f"http://127.0.0.1:{free_port()}"
        self._application = Application(url, sim=sim, consumer=consumer)
        settings = {
            **settings_of_daemon(sim, url=url, token=self._token, admin_token=self._admin_token),
            **settings_of_application(consumer),
            **server.environment(BUCKET),
            "KLING_SPOOL_DIR": str(folder.spool),
            "KLING_LEDGER_URL": ledger_url,
        }
        folder.write_environment(settings)
        make = Fleet.of_many if front else Fleet.of_one
        self._fleet = make(settings, folder=folder, print_event=view.print_event)
        if front:
            front.doors, front.gateway = [door.url for door in self._fleet.doors], self._fleet.gateway.url
        self._callback_urls = [f"{door.url}/callbacks/{self._token}" for door in self._fleet.doors]
        self._story = Story(
            sim,
            callback_urls=self._callback_urls,
            print_event=view.print_event,
            application=self._application,
        )
        self._arrivals = Arrivals(server.bucket_folder)
        self._checker = Checker(server.client, bucket=BUCKET, sim=sim)
        self._checked: set[str] = set()
        self._server_seen_at = self._arrived_at = time.monotonic()

    def run(self, *, once: bool) -> list[str]:
        """Run the whole demo, and return the problems. Raises `DemoFailed`."""
        problems: list[str] = []
        try:
            self._open()
            problems = self._first_batch()
            if not problems and not once:
                problems = self._go_on()
        except Interrupted:
            self._view.print_event("stopping", self._how_far())
        finally:
            problems += self._fleet.stop()
            self._application.close()
        return problems

    # --- the acts ---

    def _open(self) -> None:
        self._story.create_history()
        self._fleet.start()
        while not self._fleet.is_ready:
            self._stop.pause()
            self._fleet.supervise()
        self._view.print_line()
        self._view.places(self._places())
        self._view.print_line()

    def _first_batch(self) -> list[str]:
        self._story.begin()
        while not (self._story.is_over and self._is_all_done()):
            self._tick()
        problems = [problem for task in self._story.created for problem in self._check(task)]
        problems += self._checker.unexpected_objects(self._story.created)
        problems += [f"the simulated account complains: {complaint}" for complaint in self._sim.complaints]
        self._view.summary(
            rows(
                arrived=self._arrivals.arrived.values(),
                created=self._story.created,
                objects=self._checker.objects,
                is_forged=bool(self._story.forged_id),
                fleet=self._fleet,
                sim=self._sim,
            )
        )
        if not problems:
            objects, size = self._checker.objects, megabytes(self._checker.bytes)
            self._view.print_event("right", f"all bytes right: {objects} files, {size}, compared one by one")
            problems = self._use_application()
        return problems

    def _use_application(self) -> list[str]:
        """What an application sees, also once the account has deleted everything. Returns the problems."""
        application = self._application
        tasks = [task for task in self._story.created if task.names]
        opened = application.open_links(tasks, wait=self._tick)
        self._view.print_event(
            "links", f"{count_of(len(opened.links), 'picture')} opened by links of the gateway, such as"
        )
        self._view.places([("picture", link) for link in opened.links[:LINKS_SHOWN]])
        problems = opened.problems + self._await_forwards(application)
        for task_id in self._sim.task_ids():
            self._sim.purge(task_id)
        self._view.print_event("deleted", "the account has deleted every task and every file")
        self._outlast_shared_answers()
        opened = application.open_links(tasks, wait=self._tick)
        answers = count_of(opened.sources["manifest"], "query answered", "queries answered")
        self._view.print_event(
            "links", f"{count_of(len(opened.links), 'picture')} opened again; {answers} from manifests"
        )
        return problems + opened.problems

    def _outlast_shared_answers(self) -> None:
        """The gateway shares an answer between equal queries of one second. Here it would be Kling's, from before."""
        until = time.monotonic() + SHARED_ANSWERS_SECONDS
        while time.monotonic() <= until:
            self._tick()

    def _await_forwards(self, application: Application) -> list[str]:
        """Wait until the consumer has been told of every task that is newer than the daemon."""
        began_at = time.monotonic()
        while untold := application.untold(self._story.created):
            if time.monotonic() - began_at > QUIET_SECONDS_MAX:
                return [f"no forward has told: {', '.join(untold)}"]
            self._tick()
        told = sum(task.plan.twist is not Twist.HISTORY for task in self._story.created)
        self._view.print_event(
            "told", f"the application was told of {count_of(told, 'task')} by signed forwards"
        )
        return application.problems_of_forwards(self._story.created)

    def _go_on(self) -> list[str]:
        self._view.print_event("next", "a new task every few seconds until you press Ctrl-C")
        self._sim.switches.progress_seconds = LEISURELY_PROGRESS_SECONDS
        self._story.go_on()
        while True:
            self._tick()
            for task_id in self._arrivals.arrived.keys() - self._checked:
                if problems := self._check(self._arrivals.arrived[task_id].task):
                    return problems

    # --- one tick ---

    def _tick(self) -> None:
        self._stop.pause()
        self._fleet.supervise()
        self._kill_some()
        self._story.proceed()
        for arrival in self._arrivals.look([task for task in self._story.created if task.names]):
            self._arrived_at = time.monotonic()
            self._view.print_event("archived", _sentence(arrival))
        for log in self._fleet.logs:
            for event in log.read():
                self._relay(event)
        self._view.show(self._tally())
        self._demand_progress()

    def _kill_some(self) -> None:
        """Of many, the last worker and then the last door, each in the midst of it."""
        if len(self._fleet.all) == 1:
            return
        if self._arrivals.arrived:
            self._fleet.kill_once(self._fleet.workers[-1], self._view.print_event)
        if len(self._story.created) > len(HISTORY) + len(LIVE) // 2:
            self._fleet.kill_once(self._fleet.doors[-1], self._view.print_event)

    def _relay(self, event: Mapping[str, Any]) -> None:
        name, family = event.get("event"), event.get("family")
        if name == "sweep.finished" and event.get("found"):
            self._view.print_event(
                "sweep", f"{count_of(event['found'], 'task')} of {family} new to the daemon"
            )
        elif name == "task.verified" and event.get("state") == "failed":
            self._view.print_event("failed", f"{event.get('task_id')} upstream, as the API confirms")
        elif name in NOTABLE:
            subject = event.get("task_id") or event.get("stage") or ""
            self._view.print_event("daemon", f"{name} {subject} {event.get('reason', '')}".rstrip())

    def _demand_progress(self) -> None:
        now = time.monotonic()
        if now - self._server_seen_at > 1:
            self._server.demand_alive()
            self._server_seen_at = now
        missing = self._missing()
        if not missing:
            self._arrived_at = now
        elif now - self._arrived_at > QUIET_SECONDS_MAX:
            raise DemoFailed(
                f"nothing was archived for {QUIET_SECONDS_MAX} s, and these tasks are missing: {', '.join(missing)}. "
                f"The log of {self._fleet.workers[0].name} ends with:\n{self._fleet.workers[0].log_tail()}"
            )

    # --- what is known ---

    def _missing(self) -> list[str]:
        return [
            task.task_id
            for task in self._story.created
            if task.names and task.task_id not in self._arrivals.arrived
        ]

    def _is_all_done(self) -> bool:
        if self._missing() or not self._fleet.is_ready:
            return False
        failed = sum(task.plan.twist is Twist.FAILED for task in self._story.created)
        return self._fleet.tasks().get("failed", 0) >= failed

    def _check(self, task: CreatedTask) -> list[str]:
        self._stop.check()
        problems = self._checker.problems_of(task)
        self._checked.add(task.task_id)
        self._view.show(self._tally())
        return problems

    def _tally(self) -> Tally:
        tasks = [task.task_id for task in self._story.created if task.names]
        return Tally(
            finished=sum(self._sim.task(task_id).status == "succeed" for task_id in tasks),
            archived=len(self._arrivals.arrived),
            checked=len(self._checked & self._arrivals.arrived.keys()),
            tasks=max(len(tasks), FIRST_BATCH),
            bytes=sum(arrival.bytes for arrival in self._arrivals.arrived.values()),
            daemon=self._fleet.words(),
        )

    def _how_far(self) -> str:
        tally = self._tally()
        return f"{tally.archived} of {tally.tasks} tasks are archived, {tally.checked} of them checked"

    def _places(self) -> list[tuple[str, str]]:
        url, admin = self._fleet.all[0].url, self._admin_token
        places = [
            ("bucket folder", _short(self._server.bucket_folder)),
            ("S3 server", f"{self._server.endpoint_url}  bucket {BUCKET}"),
            ("ledger", self._ledger_place),
            *((f"log of {daemon.name}", _short(daemon.log)) for daemon in self._fleet.all),
            *(("callback URL", f"{each}/{GENERATIONS}") for each in self._callback_urls),
            ("health", "  ".join(f"{daemon.url}/readyz" for daemon in self._fleet.all)),
            ("metrics", f"{url}/metrics"),
            ("Kling API", f"{self._sim.base_url}  (simulated)"),
            ("gateway", f"{self._url}  (Kling's own paths, for any Kling client)"),
        ]
        if self._fleet.all[0].answers("/api/tasks", token=admin):
            places.append(("operators' API", f'curl -H "Authorization: Bearer {admin}" {url}/api/tasks'))
        if self._fleet.all[0].answers("/console/login"):
            places.append(("console", f"{url}/console  token {admin}"))
        command = _short(Path(sys.executable).parent / "kling-archiver")
        places.append(("commands", f". {_short(self._folder.environment)} && {command} status"))
        return places


@contextlib.contextmanager
def performing(
    folder: DemoFolder, *, view: View, stop: StopRequest, on_postgres: bool = False
) -> Iterator[Performance]:
    """Start account, S3 server and perhaps PostgreSQL, not yet the daemon. Raises `DemoFailed`."""
    switches = Switches(progress_seconds=PROGRESS_SECONDS)
    sqlite = contextlib.nullcontext(f"sqlite:///{folder.ledger}")
    none = contextlib.nullcontext(None)
    with (
        consumer() as told,
        serving(folder.s3) as server,
        postgres(folder.postgres) if on_postgres else sqlite as ledger_url,
        fronting() if on_postgres else none as front,
        KlingSimulator(switches=switches) as sim,
    ):
        yield Performance(
            folder=folder,
            server=server,
            sim=sim,
            view=view,
            stop=stop,
            ledger_url=ledger_url,
            consumer=told,
            front=front,
        )


def _sentence(arrival: Arrival) -> str:
    files, size = count_of(arrival.files, "file"), megabytes(arrival.bytes)
    return f"{arrival.task.task_id} {short(arrival.task.plan.family)}, {files}, {size}, by {arrival.found_by}"


def _short(path: Path) -> str:
    """Relative to the working folder, if it is inside."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
