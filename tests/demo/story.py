"""What happens in the simulated account: a history, then tasks one by one, and all that can go wrong with callbacks.

Steps are due at seconds since `begin` and run in the main loop, between two looks at the daemon. A step that cannot
reach the daemon, because the user killed it, runs again later, so that the story always completes.
"""

import contextlib
import dataclasses
import datetime
import functools
import heapq
import itertools
import time
from collections.abc import Callable, Sequence

from tests.demo.application import Application, Unreachable
from tests.demo.daemon import PrintEvent
from tests.demo.plans import ENDLESS, GENERATIONS, HISTORY, LIVE, CreatedTask, Plan, Twist, short
from tests.demo.view import count_of
from tests.simulator import CallbackUndelivered, KlingSimulator

HOUR_MS = 3_600_000
BETWEEN_TASKS_SECONDS = 0.25
LATER_SECONDS = 1.5
BETWEEN_ENDLESS_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class _Step:
    at: float
    number: int
    run: Callable[[], None] = dataclasses.field(compare=False)


class Story:
    """Plays the story on `sim`; callbacks go to `callback_urls` by turns, plus the family. `created` grows.

    `application` creates the tasks that go through the gateway.
    """

    def __init__(
        self,
        sim: KlingSimulator,
        *,
        callback_urls: Sequence[str],
        print_event: PrintEvent,
        application: Application,
    ) -> None:
        self.created: list[CreatedTask] = []
        self._application = application
        self.forged_id = ""
        self._sim = sim
        self._callback_urls = itertools.cycle(callback_urls)
        self._print_event = print_event
        self._steps: list[_Step] = []
        self._numbers = itertools.count()
        self._began_at = 0.0

    @property
    def is_over(self) -> bool:
        """Whether every step has run; the account may still work on tasks."""
        return not self._steps

    def create_history(self) -> None:
        """Create the tasks that are older than the daemon's first start."""
        for hours, plan in HISTORY:
            self._make(plan, created_at=self._sim.now_ms() - hours * HOUR_MS)
        self._print_event(
            "history", f"{len(HISTORY)} tasks, up to 29 days old, and no callback for any of them"
        )

    def begin(self) -> None:
        """Start the live part, which `proceed` runs."""
        self._began_at = time.monotonic()
        for number, plan in enumerate(LIVE):
            self._plan(number * BETWEEN_TASKS_SECONDS, functools.partial(self._make_live, plan))
        self._plan(1.3, self._forge)

    def go_on(self) -> None:
        """Create one more task every few seconds, for ever."""
        plans = itertools.cycle(ENDLESS)

        def one_more() -> None:
            self._make_live(next(plans))
            self._after(BETWEEN_ENDLESS_SECONDS, one_more)

        self._after(0.0, one_more)

    def proceed(self) -> None:
        """Run the steps that are due."""
        while self._steps and self._steps[0].at <= time.monotonic() - self._began_at:
            heapq.heappop(self._steps).run()

    def _plan(self, at: float, run: Callable[[], None]) -> None:
        heapq.heappush(self._steps, _Step(at, next(self._numbers), run))

    def _after(self, seconds: float, run: Callable[[], None]) -> None:
        self._plan(time.monotonic() - self._began_at + seconds, run)

    def _make(self, plan: Plan, *, created_at: int | None = None) -> str:
        live = plan.twist is not Twist.HISTORY
        task_id = self._sim.create_task(
            family=plan.family,
            images=plan.images,
            watermark=plan.watermark,
            size=plan.size,
            created_at=created_at,
            callback_url=f"{next(self._callback_urls)}/{plan.family}" if live else None,
            status="submitted" if live else "succeed",
        )
        return self._note(task_id, plan)

    def _note(self, task_id: str, plan: Plan) -> str:
        day = datetime.datetime.fromtimestamp(self._sim.task(task_id).created_at / 1000, tz=datetime.UTC)
        names = () if plan.twist is Twist.FAILED else tuple(self._sim.expected_names(task_id))
        self.created.append(CreatedTask(task_id, f"{plan.family}/{day:%Y/%m/%d}/{task_id}/", plan, names))
        return task_id

    def _make_live(self, plan: Plan) -> None:
        if plan.twist is Twist.GATEWAY:
            return self._create_by_gateway(self._application, plan, self._application.new_external_id())
        task_id = self._make(plan)
        if plan.twist is Twist.DROPPED:
            self._sim.drop_callbacks(task_id)
        elif plan.twist is Twist.FAILED:
            self._sim.fail(task_id)
        elif plan.twist is Twist.DOUBLED:
            self._after(LATER_SECONDS, functools.partial(self._repeat, task_id))
        self._print_created(task_id, plan)
        return None

    def _create_by_gateway(self, application: Application, plan: Plan, external_id: str) -> None:
        """A create whose answer is lost, because the user killed the daemon, is sent again only if it never arrived."""
        try:
            task_id: str | None = application.create(plan, external_id=external_id)
        except Unreachable:
            task_id = self._sim.find(external_id)
        if task_id is None:
            self._after(
                LATER_SECONDS, functools.partial(self._create_by_gateway, application, plan, external_id)
            )
            return
        self._print_created(self._note(task_id, plan), plan)

    def _print_created(self, task_id: str, plan: Plan) -> None:
        images = count_of(plan.images, "image")
        marks = " + watermarked" if plan.watermark else ""
        twist = f": {plan.twist}" if plan.twist else ""
        self._print_event("created", f"{task_id} {short(plan.family)}, {images}{marks}{twist}")

    def _repeat(self, task_id: str) -> None:
        try:
            self._sim.send_callback(task_id)
        except CallbackUndelivered:
            self._after(LATER_SECONDS, functools.partial(self._repeat, task_id))
        else:
            self._print_event("doubled", f"{task_id} was reported a second time")

    def _forge(self) -> None:
        """An attacker with the callback URL claims a success; the simulator complains if the URL in it is fetched."""
        now = self._sim.now_ms()
        url = f"{self._sim.origin}/forged.png"
        self.forged_id = self.forged_id or str(
            int(self.created[-1].task_id) + 1_000_000
        )  # looks like a genuine id
        body = {
            "task_id": self.forged_id,
            "task_status": "succeed",
            "task_status_msg": "",
            "created_at": now,
            "updated_at": now,
            "task_result": {"images": [{"index": 0, "url": url}]},
        }
        with contextlib.suppress(CallbackUndelivered):
            self._sim.post_callback(f"{next(self._callback_urls)}/{GENERATIONS}", body)
            self._print_event("forged", f"{self.forged_id} an attacker claims that it succeeded")
            return
        self._after(LATER_SECONDS, self._forge)
