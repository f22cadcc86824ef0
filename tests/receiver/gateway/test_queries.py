"""What a client of the gateway reads of its tasks: Kling's words with links, and the archive's where Kling has none.

The simulated account stands behind a real upstream; ledger and links are real.
"""

import asyncio
import concurrent.futures
import contextlib
import json
import pathlib
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx2
import pytest

from archiver.failures import LedgerUnavailable, StoreUnreachable
from archiver.families import FAMILIES, collection_of
from archiver.kling.credentials import ApiKey
from archiver.ledger.gateway_creates.registering import CreatedTask, GatewayCreate
from archiver.model import DAY_MS, State
from archiver.record import Recorder
from archiver.store.links import LinkSigner
from receiver.gateway import queries
from receiver.gateway.absence import JUDGED_BYTES_MAX
from receiver.gateway.archived_tasks import ArchivedTasks
from receiver.gateway.blocking import BlockingCalls
from receiver.gateway.exchange import (
    Client,
    GatewayAnswer,
    GatewayRequest,
    NoAnswer,
    RequestBody,
    Source,
)
from receiver.gateway.family_search import REQUESTS_MAX
from receiver.gateway.front.paths import read_path
from receiver.gateway.gateway import QUERY_THREADS, QueryParts
from receiver.gateway.queries import REPLACED_BYTES_MAX, Queries
from receiver.gateway.recorded_answers import AccountTasks, AnswerRecorder, RecordedAnswer
from receiver.gateway.upstream import KlingAccess, KlingUpstream
from tests.harness.daemons import until
from tests.harness.edge import SECONDS_MAX
from tests.harness.engine import ACCOUNT, FAMILY, Engine
from tests.harness.gateway import BEARER, gateway_to
from tests.simulator import KlingSimulator, faults
from tests.simulator.request_log import Kind
from tests.simulator.server import API_KEY

PUBLIC = "https://kling.example.com"
SIGNER = LinkSigner(["a-link-secret-of-32-characters-or-more"], public_url=PUBLIC)
OTHER = "other"
EXPAND = "images/editing/expand"
SERIES = "images/omni-image"
TRY_ON = "solutions/virtual_try_on"
CLIENTS_URL = "https://app.example.com/cb?a=b"


class Gate:
    """Queries of one process over a simulated account."""

    def __init__(
        self,
        sim: KlingSimulator,
        engine: Engine,
        *,
        patience_seconds: float = 5.0,
        record_seconds: float = 30.0,
        families: tuple[str, ...] = (FAMILY,),
    ) -> None:
        self.sim, self.engine = sim, engine
        self.seconds = 0.0
        self._runner = asyncio.Runner()
        self._calls = [BlockingCalls(2, name=f"test-{number}") for number in range(4)]
        self.upstream = KlingUpstream(
            {name: KlingAccess(sim.base_url, ApiKey(API_KEY)) for name in (ACCOUNT, OTHER)},
            connections_max=64,
            decoder=self._calls[0],
        )
        accounts = {
            name: AccountTasks(
                Recorder(name, engine.ledger, engine.metrics, lambda: 0.5), families, SIGNER, PUBLIC
            )
            for name in (ACCOUNT, OTHER)
        }
        archived = ArchivedTasks(
            engine.ledger.views,
            engine.store,
            signers={name: account.signer for name, account in accounts.items()},
            ledger_calls=self._calls[1],
            store_calls=self._calls[2],
            ledger_seconds=30.0,
            store_seconds=30.0,
        )
        self.recorder = AnswerRecorder(accounts, engine.ledger.views, engine.ledger.registrations)
        self.queries = Queries(
            self.upstream,
            self.recorder,
            archived,
            engine.metrics,
            reads=self._calls[1],
            writes=self._calls[3],
            patience_seconds=patience_seconds,
            record_seconds=record_seconds,
            monotonic=lambda: self.seconds,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self.upstream.close())
        self._runner.close()
        for calls in self._calls:
            calls.close()

    def ask(self, *targets: str, account: str = ACCOUNT, method: str = "GET", body: bytes = b"") -> Any:
        """The answers to questions asked at once; of one question, its answer."""
        requests = [
            request(target, self._calls[0], account=account, method=method, body=body) for target in targets
        ]

        async def all_of_them() -> Sequence[GatewayAnswer]:
            return await asyncio.gather(*map(self.queries.handle, requests))

        answers = self._runner.run(all_of_them())
        return answers[0] if len(answers) == 1 else answers

    def read(self, target: str) -> tuple[GatewayAnswer, bytes]:
        """An answer that comes in pieces, and all of them."""

        async def all_of_it() -> tuple[GatewayAnswer, bytes]:
            asked = request(target, self._calls[0], account=ACCOUNT, method="GET", body=b"")
            answer = await self.queries.handle(asked)
            assert not isinstance(answer.body, bytes)
            return answer, b"".join([piece async for piece in answer.body])

        return self._runner.run(all_of_it())

    def unlinked(self, kind: str = "query") -> float | None:
        return self.engine.metrics.registry.get_sample_value("kling_gateway_unlinked_total", {"kind": kind})

    def state(self, task_id: str) -> State | None:
        return self.engine.ledger.records.states(account=ACCOUNT, task_ids=[task_id]).get(task_id)

    def archived(self, **task: Any) -> str:
        task_id = self.engine.succeeded(**task)
        assert self.engine.attempt() is None
        return task_id


def request(
    target: str,
    files: BlockingCalls,
    *,
    account: str,
    method: str,
    body: bytes,
    authorization: bytes | None = None,
) -> GatewayRequest:
    path, _, query = target.partition("?")
    read = read_path(method, path.encode(), query.encode())
    assert read is not None
    headers = [(b"content-type", b"application/json")]
    return GatewayRequest(
        method,
        read.path,
        query.encode(),
        headers,
        RequestBody(body, files),
        Client(account, authorization),
        read.kind,
        read.family,
        read.identifier,
    )


def said(answer: GatewayAnswer) -> Any:
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)


def urls_of(row: Any) -> list[str]:
    """Every URL in it, in order."""
    return re.findall(r"https?://[^\"]+", json.dumps(row))


def never(*_: object, **__: object) -> Any:
    raise LedgerUnavailable("full")


def folder_of(engine: Engine, task_id: str, family: str = FAMILY) -> str:
    return engine.folder(task_id, family).removeprefix("kling/").rstrip("/")


def link(engine: Engine, task_id: str, stem: str, *, family: str = FAMILY, extension: str = "png") -> str:
    return SIGNER.url(
        account=ACCOUNT, folder=folder_of(engine, task_id, family), stem=stem, extension=extension
    )


@pytest.fixture(scope="module")
def account() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator


@pytest.fixture
def sim(account: KlingSimulator) -> Iterator[KlingSimulator]:
    yield account
    account.clear_faults()
    account.complaints.clear()


@pytest.fixture
def engine(sim: KlingSimulator, tmp_path: pathlib.Path) -> Iterator[Engine]:
    with Engine(sim, tmp_path, api_key=True) as made:
        yield made


@pytest.fixture
def gate(sim: KlingSimulator, engine: Engine) -> Iterator[Gate]:
    with Gate(sim, engine) as made:
        yield made


# --- Kling's word -----------------------------------------------------------------------------------------


def test_the_first_succeed_that_a_client_sees_carries_links_and_is_recorded(gate: Gate) -> None:
    task_id = gate.sim.create_task(images=2, watermark=True)
    path = f"/v1/{FAMILY}/{task_id}"
    before = gate.ask(path)
    gate.sim.succeed(task_id)
    gate.engine.clock.advance(seconds=5)
    gate.seconds += 1.0
    answer = gate.ask(path)

    assert said(before)["data"]["task_status"] == "submitted"
    assert gate.state(task_id) is State.SUCCEEDED
    images = said(answer)["data"]["task_result"]["images"]
    stems = [(f"{number}", f"{number}.watermark") for number in range(2)]
    expected = [tuple(link(gate.engine, task_id, stem) for stem in pair) for pair in stems]
    assert [(row["url"], row["watermark_url"]) for row in images] == expected
    assert (answer.status, answer.source, gate.unlinked()) == (200, Source.KLING, 0.0)


def test_nothing_but_the_urls_differs_from_what_kling_said(gate: Gate) -> None:
    task_id = gate.sim.create_task(images=1)
    url = "https://p1.klingai.com/a.png?x=1"
    text = (
        '{ "code" : 0,"data":{"task_id":"%s", "task_status":"succeed" ,"n":1.50,"task_info":{},"x":"\\u00e9\\/",\n'
        '"task_result":{"images":[{"index":0,"url":"%s","note":"%s"}]}}, "code":0 }'
    )
    gate.sim.fault("query", faults.Json(text % (task_id, url.replace("/", "\\/"), url)))
    answer = gate.ask(f"/v1/{FAMILY}/{task_id}")

    folder = re.search(r"default/(images/.*)/0\.png", answer.body.decode())
    assert folder is not None
    linked = SIGNER.url(account=ACCOUNT, folder=folder[1], stem="0", extension="png")
    assert answer.body.decode() == text % (task_id, linked, url)


@pytest.mark.parametrize(
    "broken", [b"\xf0\x9f", b"a\tb\n", b'","n":' + b"7" * 5000 + b',"m":"'], ids=lambda _: ""
)
def test_a_whole_answer_with_something_broken_in_it_is_recorded_and_linked(gate: Gate, broken: bytes) -> None:
    task_id = gate.sim.create_task()
    ours = f"{PUBLIC}/callbacks/{'t' * 43}.ref/images/generations".encode()
    text = (
        b'{"code":0,"message":"%b","data":{"task_id":"%b","task_status":"succeed","task_status_msg":"%b",'
        b'"task_info":{"callback_url":"%b"},'
        b'"task_result":{"images":[{"index":0,"url":"https://p1.klingai.com/a.png?x=1"}]}}}'
    )
    body = text % (broken, task_id.encode(), broken, ours)
    gate.sim.fault("query", faults.Raw(200, body, {"content-type": "application/json"}))
    answer = gate.ask(f"/v1/{FAMILY}/{task_id}")

    assert gate.state(task_id) is State.SUCCEEDED
    (linked,) = re.findall(rb'"(https://kling.example.com/files/[^"]*)"', answer.body)
    assert answer.body == body.replace(b"https://p1.klingai.com/a.png?x=1", linked).replace(ours, b"")


def test_a_poll_that_brings_no_news_writes_nothing(gate: Gate) -> None:
    archived_id, succeeded_id = gate.archived(), gate.engine.succeeded()
    task_ids = [gate.sim.create_task(), succeeded_id, archived_id]
    paths = [f"/v1/{FAMILY}/{task_id}" for task_id in task_ids]
    gate.ask(*paths)
    gate.seconds += 1.0
    gate.engine.ledger.records.record = never  # type: ignore[method-assign]  # the poll would write
    running, succeeded, archived = gate.ask(*paths)

    assert gate.unlinked() == 0.0
    assert said(running)["data"]["task_status"] == "submitted"
    assert [urls_of(said(answer)) for answer in (succeeded, archived)] == [
        [link(gate.engine, task_id, "0")] for task_id in task_ids[1:]
    ]


def test_tasks_are_found_by_external_ids_and_recorded_once(gate: Gate) -> None:
    name = "order 7/é"
    task_id = gate.sim.create_task(external_task_id=name)
    gate.sim.succeed(task_id)
    by_path, by_query = gate.ask(
        f"/v1/{FAMILY}/{quote(name.replace('/', '-'), safe='')}", f"/v1/{FAMILY}/{task_id}"
    )

    assert said(by_path)["code"] == 1201
    assert urls_of(said(by_query)) == [link(gate.engine, task_id, "0")]
    shown = gate.engine.show(task_id)
    assert (shown["external_task_id"], shown["discovered_by"]) == (name, "registration")


def test_kling_s_urls_go_out_and_are_counted_where_the_ledger_cannot_take_the_answer(gate: Gate) -> None:
    task_id = gate.sim.create_task()
    gate.sim.succeed(task_id)

    gate.engine.ledger.records.record = never  # type: ignore[method-assign]  # the disk is full
    answer = gate.ask(f"/v1/{FAMILY}/{task_id}")

    assert [urlsplit(url).netloc for url in urls_of(said(answer))] == [urlsplit(gate.sim.origin).netloc]
    assert (answer.status, gate.unlinked(), gate.state(task_id)) == (200, 1.0, None)


def test_an_answer_that_the_ledger_takes_too_long_for_goes_out_as_it_came(
    sim: KlingSimulator, engine: Engine
) -> None:
    task_id = sim.create_task()
    sim.succeed(task_id)
    goes_on, ended = threading.Event(), threading.Event()
    record = engine.ledger.records.record

    def slow(*args: Any, **options: Any) -> Any:
        goes_on.wait(30)
        try:
            return record(*args, **options)
        finally:
            ended.set()

    engine.ledger.records.record = slow  # type: ignore[method-assign]  # a lock that lasts
    with Gate(sim, engine, record_seconds=0.05) as gate:
        answer = gate.ask(f"/v1/{FAMILY}/{task_id}")
        goes_on.set()
        assert ended.wait(30), "it is recorded all the same"

        assert PUBLIC not in answer.body.decode()
        assert gate.unlinked() == 1.0


def test_a_task_of_another_account_never_gets_a_link(gate: Gate) -> None:
    task_id = gate.archived()
    gate.sim.fault("query", faults.ErrorCode(400, 1201, "no such task"))
    answer = gate.ask(f"/v1/{FAMILY}/{task_id}", account=OTHER)
    by_batch = gate.ask(f"/tasks?task_ids={task_id}x", account=OTHER)

    assert (said(answer)["code"], answer.source) == (1201, Source.KLING)
    assert (said(by_batch)["data"], by_batch.source) == ([], Source.KLING)


# --- our callback URLs ------------------------------------------------------------------------------------


def test_our_callback_url_never_shows(gate: Gate) -> None:
    ours = f"{PUBLIC}/callbacks/{'t' * 43}.ref/images/generations"
    task_id = gate.sim.create_task()
    create = GatewayCreate("r" * 22, ACCOUNT, FAMILY, None, CLIENTS_URL, None)
    gate.engine.ledger.gateway_creates.commit(created=[CreatedTask(create, task_id)])
    task = {"task_id": task_id, "task_status": "submitted", "task_info": {"callback_url": ours}}
    gate.sim.fault("query", faults.Json({"code": 0, "message": f"for {ours}!", "data": task}))
    answer = gate.ask(f"/v1/{FAMILY}/{task_id}")
    gate.sim.clear_faults()
    gate.sim.fault("query", faults.ErrorCode(400, 1201, f"bad callback_url {ours}"))
    refused = gate.ask(f"/v1/{FAMILY}/{task_id}x")

    assert said(answer)["message"] == "for "
    assert said(answer)["data"]["task_info"]["callback_url"] == CLIENTS_URL
    assert said(refused)["message"] == "bad callback_url "


def about(task_id: str, *, external_id: str | None = None) -> faults.Json:
    """An answer that shows this task."""
    info = {} if external_id is None else {"external_task_id": external_id}
    row = {"task_id": task_id, "task_status": "submitted", "task_info": info}
    return faults.Json({"code": 0, "message": "", "data": row})


@pytest.mark.parametrize("external_id", [None, "theirs"])
def test_an_answer_about_another_task_is_no_answer(external_id: str | None, gate: Gate) -> None:
    mine, archived, theirs = gate.sim.create_task(), gate.archived(), gate.sim.create_task()
    gate.engine.ledger.registrations.register(mine, account=ACCOUNT, family=FAMILY)
    gate.sim.fault("query", about(theirs, external_id=external_id))
    with pytest.raises(NoAnswer, match="about other tasks"):
        gate.ask(f"/v1/{FAMILY}/{mine}")
    answer = gate.ask(f"/v1/{FAMILY}/{archived}")

    assert (said(answer)["data"]["task_id"], answer.source) == (archived, Source.MANIFEST)
    assert gate.state(theirs) is None


@pytest.mark.parametrize("external_id", [None, "MINE-1", "mine"])
def test_an_answer_about_a_task_that_may_have_the_external_id_is_one(
    external_id: str | None, gate: Gate
) -> None:
    task_id = gate.sim.create_task()
    gate.sim.fault("query", about(task_id, external_id=external_id))

    assert said(gate.ask(f"/v1/{FAMILY}/mine-1"))["data"]["task_id"] == task_id


@pytest.mark.parametrize(
    ("asked", "is_answer"),
    [
        ("task_ids=1,2", False),
        ("external_task_ids=mine-1", False),
        ("task_ids=1&status=submitted", False),
        ("task_ids=1,%20id-{0}", True),
        ("task_ids=%5B%22id-{0}%22%5D", True),
        ("task_ids=%22ID-{0}%22", True),
        ("task_ids=x;id-{0}", True),
        ("task_ids=x%7Cid-{0}", True),
        ("task_ids=x+id-{0}", True),
        ("task_ids=x%EF%BC%8Cid-{0}", True),
        ("task_ids=thei+r%27s+%26+%C3%A9", True),
        ("external_task_ids=thei%2Br%27s%20%26%20%C3%A9,mine-1", True),
        ("external_task_ids=THEI+R%27S+%26+%C3%89", True),
        ("external_task_ids=thei+r%27s+%26+e%CC%81", True),
        ("external_task_ids=thei+r%27s+%26+%E9", True),
    ],
)
@pytest.mark.parametrize("external_id", ["thei+r's & \u00e9", "thei r's &amp; \u00e9"])
def test_an_answer_of_tasks_shows_one_of_those_asked_for_or_is_none(
    asked: str, is_answer: bool, external_id: str, gate: Gate
) -> None:
    theirs = gate.sim.create_task()
    row = {"id": f"id-{theirs}", "status": "submitted", "external_id": external_id}
    gate.sim.fault("tasks", faults.Json({"code": 0, "message": "", "data": [row]}))
    with contextlib.nullcontext() if is_answer else pytest.raises(NoAnswer, match="about other tasks"):
        assert said(gate.ask(f"/tasks?{asked.format(theirs)}"))["data"] == [row]


@pytest.mark.parametrize(
    ("path", "is_array"), [("/v1/videos/avatar/newthing", False), (f"/v1/{FAMILY}/mine", True)]
)
def test_a_list_at_a_path_that_looks_like_a_query_is_an_answer(path: str, is_array: bool, gate: Gate) -> None:
    row = {"task_id": "t-1", "task_status": "submitted", "task_info": {"external_task_id": "theirs"}}
    body = {"code": 0, "message": "", "data": [row] if is_array else row}
    gate.sim.fault(None, faults.Json(body))

    assert said(gate.ask(path)) == body


def test_a_long_refusal_is_read_beside_the_event_loop(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    read = gate.recorder.refused

    def noted(body: bytes) -> RecordedAnswer:
        threads.append(threading.current_thread())
        return read(body)

    monkeypatch.setattr(gate.recorder, "refused", noted)
    ours = f"{PUBLIC}/callbacks/{'t' * 43}/images/generations"
    for length in (1, JUDGED_BYTES_MAX):
        gate.sim.fault("query", faults.ErrorCode(400, 1201, f"{'m' * length} {ours}"), times=1)
        assert ours.encode() not in gate.ask(f"/v1/{FAMILY}/no-such-{length}").body

    assert [thread is threading.main_thread() for thread in threads] == [True, False]


# --- the new standard -------------------------------------------------------------------------------------


def test_tasks_of_the_new_standard_get_links_at_the_first_succeed(gate: Gate) -> None:
    task_id = gate.sim.create_task(family="tasks/video")
    gate.engine.ledger.registrations.register(task_id, account=ACCOUNT, family="tasks/video")
    gate.sim.succeed(task_id)
    answer = gate.ask(f"/tasks?task_ids={task_id}")

    assert urls_of(said(answer)) == [
        link(gate.engine, task_id, "video-0", family="tasks/video", extension="mp4")
    ]


def test_a_task_of_a_v1_family_gets_the_names_of_its_own_path_at_tasks(gate: Gate) -> None:
    task_id = gate.sim.create_task(family=SERIES, series=True, images=2)
    gate.engine.ledger.registrations.register(task_id, account=ACCOUNT, family=SERIES)
    gate.sim.succeed(task_id)
    answer = gate.ask(f"/tasks?task_ids={task_id}")

    assert urls_of(said(answer)) == [
        link(gate.engine, task_id, f"series-{number}", family=SERIES) for number in range(2)
    ]
    assert gate.unlinked() == 0.0


def test_a_task_that_only_tasks_has_shown_is_looked_for_at_the_paths_of_the_families(gate: Gate) -> None:
    task_id = gate.sim.create_task()
    gate.sim.succeed(task_id)
    answer = gate.ask(f"/tasks?task_ids={task_id}")

    assert urls_of(said(answer)) == [link(gate.engine, task_id, "0")]
    assert (gate.unlinked(), gate.state(task_id)) == (0.0, State.SUCCEEDED)


def test_a_task_that_no_family_of_the_account_knows_is_verified_before_it_gets_links(gate: Gate) -> None:
    task_id = gate.sim.create_task(family="images/multi-image2image")
    gate.sim.succeed(task_id)
    answer = gate.ask(f"/tasks?task_ids={task_id}")

    assert PUBLIC not in answer.body.decode()
    assert (gate.unlinked(), gate.state(task_id)) == (1.0, State.REPORTED)


# --- solutions --------------------------------------------------------------------------------------------


def test_a_solution_gets_links_at_the_first_succeed_and_its_answer_from_the_archive_once_it_is_gone(
    gate: Gate,
) -> None:
    task_id = gate.sim.create_task(family=TRY_ON, external_task_id="fitting-1")
    path = f"/solutions?task_ids={task_id}"
    before = gate.ask(path)
    gate.sim.succeed(task_id)
    gate.seconds += 1.0
    shown = gate.ask(path)
    assert gate.engine.attempt() is None
    gate.sim.purge(task_id)
    gate.seconds += 1.0
    gone, by_name, at_tasks = gate.ask(
        path, "/solutions?external_task_ids=fitting-1", f"/tasks?task_ids={task_id}"
    )

    assert [row["status"] for row in said(before)["data"]] == ["submitted"]
    linked = urls_of(said(shown))
    assert [urlsplit(url).netloc for url in linked] == [urlsplit(PUBLIC).netloc]
    assert (shown.source, gate.unlinked()) == (Source.KLING, 0.0)
    for answer in (gone, by_name):
        assert ([row["id"] for row in said(answer)["data"]], answer.source) == ([task_id], Source.MANIFEST)
        assert urls_of(said(answer)) == linked
    assert (said(at_tasks)["data"], at_tasks.source) == ([], Source.KLING)


# --- lists ------------------------------------------------------------------------------------------------


def test_lists_are_recorded_and_linked_row_by_row(gate: Gate) -> None:
    family = "images/multi-image2image"
    task_ids = [gate.sim.create_task(family=family, images=2) for _ in range(3)]
    for task_id in task_ids[:2]:
        gate.sim.succeed(task_id)
    answer = gate.ask(f"/v1/{family}?pageNum=1&pageSize=30")

    rows = {row["task_id"]: row for row in said(answer)["data"] if row["task_id"] in task_ids}
    for task_id in task_ids[:2]:
        assert urls_of(rows[task_id]) == [
            link(gate.engine, task_id, f"{number}", family=family) for number in range(2)
        ]
    assert urls_of(rows[task_ids[2]]) == []
    assert [gate.state(task_id) for task_id in task_ids] == [State.SUCCEEDED, State.SUCCEEDED, State.RUNNING]
    assert gate.engine.show(task_ids[0])["discovered_by"] == "sweep"


def test_windows_of_tasks_are_linked_too(gate: Gate) -> None:
    task_id = gate.archived()
    answer = gate.ask("/tasks", method="POST", body=b'{"limit": 500}')

    (row,) = [row for row in said(answer)["data"]["result"] if row["id"] == task_id]
    assert urls_of(row) == [link(gate.engine, task_id, "0")]


@pytest.mark.parametrize(
    ("kind", "path"),
    [("query", f"/v1/{FAMILY}/{{task_id}}"), ("list", f"/v1/{FAMILY}?pageNum=1&pageSize=500")],
)
def test_an_answer_of_more_than_32_mib_goes_out_as_it_came_and_is_counted(
    gate: Gate, kind: Kind, path: str
) -> None:
    task_id = gate.archived()
    url = "https://p1.klingai.com/a.png?x=1"
    task = {"task_id": task_id, "task_status": "succeed", "task_result": {"images": [{"url": url}]}}
    body = json.dumps({"code": 0, "message": "x" * REPLACED_BYTES_MAX, "data": task}).encode()
    gate.sim.fault(kind, faults.Raw(200, body, {"content-type": "application/json"}))

    answer, received = gate.read(path.format(task_id=task_id))

    assert (answer.status, answer.source, gate.unlinked(kind)) == (200, Source.KLING, 1.0)
    assert received == body


# --- what Kling cannot say --------------------------------------------------------------------------------


UNABLE: Sequence[faults.Fault] = (
    faults.ErrorCode(400, 1201, "no such task"),
    faults.ErrorCode(429, 1101, "in arrears"),
    faults.ErrorCode(401, 1000, "revoked"),
    faults.too_fast(),
    faults.server_error(),
    faults.Html(),
    faults.Empty(),
    faults.Drop(),
    faults.Json({"code": 0, "data": {"task_id": "other", "task_status": "submitted"}}),
    faults.Json({"code": 0, "data": None}),
)


def test_an_archived_task_is_answered_whatever_kling_says(gate: Gate) -> None:
    task_id = gate.archived(images=2)
    for fault in UNABLE:
        gate.seconds += 1.0
        gate.sim.clear_faults()
        gate.sim.fault("query", fault)
        answer = gate.ask(f"/v1/{FAMILY}/{task_id}")

        body = said(answer)
        assert (answer.status, answer.source) == (200, Source.MANIFEST), fault
        assert (body["code"], body["message"]) == (0, "SUCCEED")
        assert re.fullmatch(r"[0-9a-f-]{36}", body["request_id"])
        assert body["data"]["task_id"] == task_id
        assert body["data"]["task_status"] == "succeed"
        assert urls_of(body) == [link(gate.engine, task_id, f"{number}") for number in range(2)]


def test_a_succeed_whose_results_are_gone_is_answered_from_the_archive(gate: Gate) -> None:
    task_id = gate.archived()
    gone = {"task_id": task_id, "task_status": "succeed", "task_result": {"images": []}}
    gate.sim.fault("query", faults.Json({"code": 0, "data": gone}))
    answer = gate.ask(f"/v1/{FAMILY}/{task_id}")

    assert answer.source is Source.MANIFEST
    assert urls_of(said(answer)) == [link(gate.engine, task_id, "0")]


def test_an_answer_that_takes_too_long_is_not_waited_for(sim: KlingSimulator, engine: Engine) -> None:
    with Gate(sim, engine, patience_seconds=0.05) as gate:
        task_id = gate.archived()
        sim.fault("query", faults.Hang())
        answer = gate.ask(f"/v1/{FAMILY}/{task_id}")

        assert answer.source is Source.MANIFEST
        assert urls_of(said(answer)) == [link(engine, task_id, "0")]


def test_without_kling_and_its_ledger_or_bucket_there_is_no_answer(gate: Gate) -> None:
    task_id, running = gate.archived(), gate.engine.succeeded()
    gate.sim.fault("query", faults.Drop())

    with pytest.raises(NoAnswer):
        gate.ask(f"/v1/{FAMILY}/{running}")
    gate.engine.effects.plan["read manifest.json"] = (False, StoreUnreachable("gone"))
    with pytest.raises(NoAnswer):
        gate.ask(f"/v1/{FAMILY}/{task_id}")


def test_a_forgotten_task_has_no_links_and_no_answer_but_kling_s(gate: Gate) -> None:
    task_id = gate.archived()
    gate.engine.ledger.tombstones.forget(task_id, account=ACCOUNT)

    answered = gate.ask(f"/v1/{FAMILY}/{task_id}")
    gate.seconds += 1.0
    gate.sim.fault("query", faults.ErrorCode(404, 1203, "no such task"))
    lost = gate.ask(f"/v1/{FAMILY}/{task_id}")

    assert answered.source is Source.KLING
    assert [url for url in urls_of(said(answered)) if url.startswith(PUBLIC)] == []
    assert (lost.source, said(lost)["code"]) == (Source.KLING, 1203)
    assert gate.state(task_id) is None


def test_a_path_of_another_family_says_what_kling_says(gate: Gate) -> None:
    task_id = gate.archived()
    answer = gate.ask(f"/v1/{EXPAND}/{task_id}")

    assert (said(answer)["code"], answer.source) == (1201, Source.KLING)


def test_tasks_appends_the_archived_ones_that_kling_leaves_out(gate: Gate) -> None:
    task_id = gate.archived(images=1, external_task_id="mine-77")
    running = gate.sim.create_task(external_task_id="mine-78")
    expected = link(gate.engine, task_id, "0")
    gate.sim.task(task_id).created_at -= 40 * DAY_MS  # Kling has purged it
    by_id = gate.ask(f"/tasks?task_ids={task_id},{running}")
    by_name = gate.ask("/tasks?external_task_ids=mine-78,mine-77,mine-79")
    legacy = gate.ask(f"/v1/{FAMILY}/mine-77")

    for answer in (by_id, by_name):
        shown, appended = said(answer)["data"]
        assert (shown["id"], appended["id"], appended["status"]) == (running, task_id, "succeeded")
        assert appended["outputs"][0]["type"] == "image"
        assert urls_of(appended) == [expected]
        assert answer.source is Source.MANIFEST
    assert said(legacy)["data"]["task_id"] == task_id
    assert legacy.source is Source.MANIFEST


def test_tasks_refuses_in_kling_s_words_unless_all_that_was_asked_for_is_archived(gate: Gate) -> None:
    task_id, running = gate.archived(), gate.sim.create_task()
    gate.sim.fault("tasks", faults.ErrorCode(429, 1101, "in arrears"))
    both, one = gate.ask(f"/tasks?task_ids={task_id},{running}", f"/tasks?task_ids={task_id}")

    assert (said(both)["code"], both.source) == (1101, Source.KLING)
    assert ([row["id"] for row in said(one)["data"]], one.source) == ([task_id], Source.MANIFEST)


@pytest.mark.parametrize("data", [None, {"count": 0, "has_more": False}, {"result": None, "count": 0}])
def test_archived_tasks_are_shown_at_tasks_where_kling_shows_none(gate: Gate, data: object) -> None:
    task_id = gate.archived()
    gate.sim.fault("tasks", faults.Json({"code": 0, "data": data}))
    answer = gate.ask(f"/tasks?task_ids=1234,{task_id}")

    assert ([row["id"] for row in said(answer)["data"]], answer.source) == ([task_id], Source.MANIFEST)


def test_a_count_of_rows_counts_the_archived_ones_too(gate: Gate) -> None:
    task_id = gate.archived()
    data = {"count": 1, "result": [{"id": "1234", "status": "submitted"}], "has_more": False}
    gate.sim.fault("tasks", faults.Json({"code": 0, "data": data}))
    shown = said(gate.ask(f"/tasks?task_ids=1234,{task_id}"))["data"]

    assert ([row["id"] for row in shown["result"]], shown["count"]) == (["1234", task_id], 2)


def test_an_amended_task_is_answered_with_all_its_files(gate: Gate) -> None:
    engine = gate.engine
    task_id = gate.archived(family=EXPAND, watermark=True)
    engine.verify(task_id, family=EXPAND, listed=True)
    while engine.stages.folder_worker.work_once():
        pass
    gate.sim.fault("query", faults.Drop())
    answer = gate.ask(f"/v1/{EXPAND}/{task_id}")

    (row,) = said(answer)["data"]["task_result"]["images"]
    assert row["url"] == link(engine, task_id, "0", family=EXPAND)
    assert row["watermark_url"] == link(engine, task_id, "0.watermark", family=EXPAND)


# --- external ids that are used again ---------------------------------------------------------------------


def used_again(gate: Gate, name: str, *, is_archived: bool) -> tuple[str, str]:
    """An archived task that Kling has deleted, and a newer one with its external id."""
    first = gate.archived(external_task_id=name)
    gate.sim.purge(first)
    gate.engine.clock.advance(seconds=60)
    second = gate.sim.create_task(external_task_id=f"{name}, again")
    gate.sim.task(second).external_task_id = name
    if is_archived:
        gate.sim.succeed(second)
    gate.ask(f"/v1/{FAMILY}/{second}")
    if is_archived:
        assert gate.engine.attempt() is None
    return first, second


def test_an_archived_task_is_no_answer_for_an_external_id_that_a_newer_one_has(gate: Gate) -> None:
    first, _ = used_again(gate, "order-7", is_archived=False)
    gate.sim.fault("query", faults.too_fast())
    gate.sim.fault("tasks", faults.server_error())
    by_name, by_query, by_id = gate.ask(
        f"/v1/{FAMILY}/order-7", "/tasks?external_task_ids=order-7", f"/v1/{FAMILY}/{first}"
    )

    assert (said(by_name)["code"], by_name.source) == (1302, Source.KLING)
    assert (said(by_query)["code"], by_query.source) == (5000, Source.KLING)
    assert (said(by_id)["data"]["task_id"], by_id.source) == (first, Source.MANIFEST)


def test_an_external_id_means_the_newest_archived_task_that_has_it(gate: Gate) -> None:
    _, second = used_again(gate, "order-8", is_archived=True)
    gate.sim.fault("query", faults.Drop())
    gate.sim.fault("tasks", faults.Json({"code": 0, "data": []}))
    by_name, by_query = gate.ask(f"/v1/{FAMILY}/order-8", "/tasks?external_task_ids=order-8")

    assert said(by_name)["data"]["task_id"] == second
    assert [row["id"] for row in said(by_query)["data"]] == [second]


# --- an archive that cannot be read -----------------------------------------------------------------------


@pytest.mark.parametrize("part", ["ledger", "bucket"])
def test_kling_s_not_found_does_not_go_out_while_the_archive_cannot_be_read(
    gate: Gate, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id, running = gate.archived(), gate.sim.create_task()
    gate.sim.purge(task_id)
    if part == "ledger":
        monkeypatch.setattr(gate.engine.ledger.views, "known_tasks", never)
    else:
        monkeypatch.setattr(gate.engine.store, "read", never)
    paths = f"/v1/{FAMILY}/{task_id}", f"/tasks?task_ids={task_id}", f"/tasks?task_ids={running},{task_id}"
    for path in paths:
        answer = gate.ask(path)
        assert (answer.status, said(answer)["code"], answer.source) == (503, 5001, Source.GATEWAY)
        assert dict(answer.headers)[b"retry-after"] == b"5"
    shown = gate.ask(f"/v1/{FAMILY}/{running}")
    gate.sim.fault("query", faults.ErrorCode(429, 1101, "in arrears"))
    refused = gate.ask(f"/v1/{FAMILY}/{task_id}")

    assert (said(shown)["data"]["task_id"], shown.source) == (running, Source.KLING)
    assert (said(refused)["code"], refused.source) == (1101, Source.KLING)


def test_a_long_list_goes_out_with_its_archived_tasks_or_not_at_all(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived, running = gate.archived(), gate.sim.create_task()
    row = {"id": running, "status": "submitted", "message": "m" * JUDGED_BYTES_MAX}
    gate.sim.fault("tasks", faults.Json({"code": 0, "message": "", "data": [row]}))
    path = f"/tasks?task_ids={running},{archived}"
    whole = gate.ask(path)
    monkeypatch.setattr(queries, "append_items", never)
    gate.seconds += 2.0
    answer = gate.ask(path)

    assert [shown["id"] for shown in said(whole)["data"]] == [running, archived]
    assert (answer.status, said(answer)["code"], answer.source) == (503, 5001, Source.GATEWAY)


def test_a_ledger_that_takes_nothing_hides_nothing_that_it_knows(gate: Gate) -> None:
    deleted, archived, news = gate.archived(), gate.archived(), gate.sim.create_task(family="tasks/video")
    gate.engine.ledger.registrations.register(news, account=ACCOUNT, family="tasks/video")
    gate.sim.succeed(news)
    links = {task_id: [link(gate.engine, task_id, "0")] for task_id in (archived, deleted)}
    gate.sim.purge(deleted)
    gate.engine.ledger.records.record = never  # type: ignore[method-assign]  # a write lock that lasts
    answer = gate.ask(f"/tasks?task_ids={news},{archived},{deleted}")

    urls = {row["id"]: urls_of(row) for row in said(answer)["data"]}
    assert urls.pop(news)[0].startswith(gate.sim.origin)
    assert urls == links
    assert gate.unlinked() == 1.0


def test_reads_do_not_wait_behind_writes_that_wait_for_a_lock(
    sim: KlingSimulator, engine: Engine, tmp_path: pathlib.Path
) -> None:
    with Gate(sim, engine) as gate:
        task_id = gate.archived()
    expected = [link(engine, task_id, "0")]
    sim.purge(task_id)
    news = [sim.create_task() for _ in range(QUERY_THREADS)]
    goes_on, waiting = threading.Event(), threading.Semaphore(0)

    def locked(*_: object, **__: object) -> Any:
        waiting.release()
        goes_on.wait(SECONDS_MAX)
        raise LedgerUnavailable("locked")

    engine.ledger.records.record = locked  # type: ignore[method-assign]  # SQLite waits 5 s for a lock
    account = AccountTasks(
        Recorder(ACCOUNT, engine.ledger, engine.metrics, lambda: 0.5), (FAMILY,), SIGNER, PUBLIC
    )
    parts = QueryParts({ACCOUNT: account}, engine.ledger.views, engine.ledger.registrations, engine.store)
    with (
        gateway_to(sim.base_url, tmp_path / "gateway", queries=parts) as edge,
        concurrent.futures.ThreadPoolExecutor(QUERY_THREADS) as clients,
    ):

        def ask(task_id: str) -> httpx2.Response:
            return edge.client.get(f"/v1/{FAMILY}/{task_id}", headers=BEARER)

        try:
            polls = [clients.submit(ask, task_id) for task_id in news]
            assert all(waiting.acquire(timeout=SECONDS_MAX) for _ in news)
            until(lambda: urls_of(ask(task_id).json()) == expected)
        finally:
            goes_on.set()
        assert {poll.result().status_code for poll in polls} == {200}


# --- the paths of families --------------------------------------------------------------------------------


OWN_FAMILIES = tuple(family for family in FAMILIES if collection_of(family) is None)


def test_one_question_costs_few_requests_at_the_paths_of_families(
    sim: KlingSimulator, engine: Engine
) -> None:
    with Gate(sim, engine, families=OWN_FAMILIES) as gate:
        made = [sim.create_task(family="videos/motion-control") for _ in range(20)]
        unknown = [sim.create_task(family="videos/video-extend") for _ in range(20)]
        for task_id in (*made, *unknown):
            sim.succeed(task_id)
        asked = []

        def ask(task_ids: Sequence[str]) -> float | None:
            gate.seconds += 1.0
            before = sim.requests["query"], gate.unlinked()
            gate.ask(f"/tasks?task_ids={','.join(task_ids)}")
            asked.append(sim.requests["query"] - before[0])
            return gate.unlinked() == before[1]

        sim.fault("query", faults.too_fast())
        assert not ask(made)
        sim.clear_faults()
        assert ask(made), "all have links"
        assert ask(made)
        sim.fault("query", faults.ErrorCode(400, 1201, "no such task"))
        assert not ask(unknown[:1])
        assert not ask(unknown[:1])
        assert not ask(unknown)

    refused, found, known, one, again, many = asked
    assert (refused, known, again) == (1, 0, 0)
    assert 20 <= found <= REQUESTS_MAX
    assert 1 < one <= len(OWN_FAMILIES)
    assert many <= REQUESTS_MAX


# --- sharing ----------------------------------------------------------------------------------------------


def test_equal_queries_of_one_client_share_one_answer_and_others_do_not(gate: Gate) -> None:
    task_id = gate.engine.succeeded()
    before = gate.sim.requests["query"]
    path = f"/v1/{FAMILY}/{task_id}"
    answers = [*gate.ask(*[path] * 5), gate.ask(path)]
    shared = gate.sim.requests["query"] - before
    gate.ask(path, account=OTHER)
    gate.seconds += 1.0
    gate.ask(path)

    assert len({answer.body for answer in answers}) == 1
    assert (shared, gate.sim.requests["query"] - before) == (1, 3)


def test_what_was_not_found_is_asked_again_at_once(gate: Gate) -> None:
    first = gate.ask(f"/v1/{FAMILY}/mine-1000")
    task_id = gate.sim.create_task(external_task_id="mine-1000")
    second = gate.ask(f"/v1/{FAMILY}/mine-1000")

    assert said(first)["code"] == 1201
    assert said(second)["data"]["task_id"] == task_id
