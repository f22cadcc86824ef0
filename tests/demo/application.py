"""A user's application: it creates tasks through the gateway, opens the links that it gets, and is told by forwards.

It knows one base URL and the account's own keys, as any client of Kling does. Each problem is a sentence.
"""

import contextlib
import dataclasses
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import httpx2
import jwt

from tests.demo.daemon import UNANSWERED
from tests.demo.plans import CreatedTask, Plan, Twist
from tests.harness.consumer import Consumer
from tests.simulator import KlingSimulator

SOURCE = "Kling-Archiver-Source"
TOKEN_SECONDS = 1800
URL_FIELDS = ("url", "watermark_url")
TOLD_OF = {Twist.FAILED: "failed"}
"""The event of a task with this twist; `archived` of any other."""


class Unreachable(Exception):
    """The gateway did not answer; the task may have been created all the same."""


@dataclasses.dataclass(slots=True)
class Opened:
    """What came of opening the links of all tasks."""

    links: list[str] = dataclasses.field(default_factory=list)
    """Each led to its picture, or `problems` says what it led to."""
    sources: Counter[str] = dataclasses.field(default_factory=Counter)
    """Who answered the queries: `kling` or `manifest`."""
    problems: list[str] = dataclasses.field(default_factory=list)


class Application:
    """A client of the gateway at `url`, and a consumer of forwards."""

    def __init__(self, url: str, *, sim: KlingSimulator, consumer: Consumer) -> None:
        self._url = url
        self._sim = sim
        self._consumer = consumer
        self._numbers = itertools.count(1)
        self._http = httpx2.Client(base_url=url, trust_env=False, timeout=10.0, follow_redirects=True)

    def close(self) -> None:
        self._http.close()

    def new_external_id(self) -> str:
        return f"demo-{next(self._numbers)}"

    def create(self, plan: Plan, *, external_id: str) -> str:
        """The id of the created task. Raises `Unreachable`."""
        body = {"prompt": "a boat", "n": plan.images, "external_task_id": external_id}
        try:
            answer = self._http.post(f"/v1/{plan.family}", json=body, headers=self._authorization())
        except UNANSWERED as error:
            raise Unreachable from error
        if answer.status_code != 200:
            raise Unreachable(answer.text)
        return str(answer.json()["data"]["task_id"])

    def open_links(self, tasks: Iterable[CreatedTask], *, wait: Callable[[], None]) -> Opened:
        """Query each task through the gateway, open every link that the answer has, and compare the bytes.

        `wait` is called again and again while the daemon does not answer, because the user has killed it."""
        opened = Opened()
        for task in tasks:
            for problem in self._open(task, opened, wait=wait):
                opened.problems.append(f"task {task.task_id}, through the gateway: {problem}")
        return opened

    def untold(self, tasks: Sequence[CreatedTask]) -> list[str]:
        """What no forward has told yet."""
        told = Counter(self._told())
        return [
            f"{task.task_id} {event}"
            for task in tasks
            if task.plan.twist is not Twist.HISTORY
            and not told[task.task_id, event := TOLD_OF.get(task.plan.twist, "archived")]
        ]

    def problems_of_forwards(self, tasks: Sequence[CreatedTask]) -> list[str]:
        """Of what forwards have told: each event once, none of a task that was finished before the first start."""
        old = {task.task_id for task in tasks if task.plan.twist is Twist.HISTORY}
        told = Counter(self._told())
        return [
            *(
                f"two forwards of task {task_id}, {event}"
                for (task_id, event), times in told.items()
                if times > 1
            ),
            *(f"a forward of task {task_id}, which is history" for task_id, _ in told if task_id in old),
        ]

    def _get(self, url: str, *, wait: Callable[[], None]) -> httpx2.Response:
        while True:
            with contextlib.suppress(*UNANSWERED):
                return self._http.get(url, headers=self._authorization())
            wait()

    def _open(self, task: CreatedTask, opened: Opened, *, wait: Callable[[], None]) -> Iterator[str]:
        answer = self._get(f"/v1/{task.plan.family}/{task.task_id}", wait=wait)
        opened.sources[answer.headers.get(SOURCE, "nobody")] += 1
        document = answer.json()
        if document.get("code") != 0:
            yield f"the query is answered {document.get('code')}: {document.get('message')}"
            return
        links = [
            row[field]
            for row in document["data"]["task_result"]["images"]
            for field in URL_FIELDS
            if row.get(field)
        ]
        wanted = sum(
            ".watermark." not in name for name in task.names
        )  # of `expand`, only lists show the others
        if len(links) < wanted:
            yield f"{len(links)} links instead of {wanted}"
        for link in links:
            if not link.startswith(f"{self._url}/files/"):
                yield "a URL of an answer is none of ours"
                continue
            name = link.rpartition("/")[2]
            if self._get(link, wait=wait).content != self._sim.expected_bytes(task.task_id, name):
                yield f"the link of {name} leads to other bytes"
            opened.links.append(link)

    def _told(self) -> Iterator[tuple[str, str]]:
        for body in self._consumer.taken:
            yield body["archive"]["task_id"], body["archive"]["state"]

    def _authorization(self) -> dict[str, str]:
        claims = {
            "iss": self._sim.access_key,
            "exp": int(time.time()) + TOKEN_SECONDS,
            "nbf": int(time.time()) - 5,
        }
        return {"Authorization": f"Bearer {jwt.encode(claims, self._sim.secret_key, algorithm='HS256')}"}
