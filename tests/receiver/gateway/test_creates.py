"""A create by the gateway: told to the ledger, sent once, registered before its client has the answer."""

import asyncio
import contextlib
import itertools
import json
import pathlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import pytest
import structlog

from archiver.create.callback_tokens import gateway_token
from archiver.failures import LedgerUnavailable
from archiver.fetch.spool import Spool
from archiver.fetch.urls import ConsumerPolicy
from archiver.ledger import Ledger
from archiver.metrics import CreateResult, Metrics
from receiver.gateway.blocking import BlockingCalls
from receiver.gateway.creates import later, reading
from receiver.gateway.creates.body import CreateBody, read
from receiver.gateway.creates.handler import Creates
from receiver.gateway.creates.reading import CallbackAddress
from receiver.gateway.creates.refused_urls import RefusedUrls
from receiver.gateway.creates.skimming import Skimmed
from receiver.gateway.exchange import (
    Client,
    GatewayAnswer,
    GatewayRequest,
    NoAnswer,
    NotReached,
    RequestBody,
    Source,
)

ACCOUNT = "default"
TOKEN = gateway_token("a-callback-token-of-24-chars")
PUBLIC = "https://kling.example.com"
GENERATIONS = "/v1/images/generations"
NEW = "/text-to-video/kling-3.0-turbo"
CLIENT = "https://app.example.com/cb?job=1"

PATIENCE_SECONDS = 20.0

_Result = TypeVar("_Result")


def said(code: int = 0, data: object = None, *, status: int = 200, message: str = "SUCCEED") -> GatewayAnswer:
    body = {"code": code, "message": message, "request_id": "r", "data": data}
    return GatewayAnswer(status, [], json.dumps(body).encode(), Source.KLING)


def created(task_id: str = "t-1", **more: object) -> GatewayAnswer:
    return said(data={"task_id": task_id, "task_status": "submitted", **more})


Answer = GatewayAnswer | Exception | Callable[[bytes], GatewayAnswer]


class Kling:
    """An upstream with a script: what it got, and what it says; by default, that it has created a task."""

    buffered_bytes_max = 1 << 20

    def __init__(self, *answers: Answer) -> None:
        self.bodies: list[bytes] = []
        self.lengths: list[int] = []
        self.answers = list(answers)
        self.begun = asyncio.Event()
        self.may_answer: asyncio.Event | None = None
        self.numbers = itertools.count(1)

    async def send(
        self,
        request: GatewayRequest,
        *,
        answer_seconds: float,
        body: bytes | None = None,
        buffered_bytes_max: int | None = None,
    ) -> GatewayAnswer:
        del answer_seconds, body, buffered_bytes_max
        self.bodies.append(b"".join([chunk async for chunk in request.body.chunks()]))
        self.lengths.append(request.body.bytes_count)
        self.begun.set()
        if self.may_answer is not None:
            await self.may_answer.wait()
        answer = self.answers.pop(0) if self.answers else created(f"t-{next(self.numbers)}")
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, GatewayAnswer) else answer(self.bodies[-1])

    @property
    def last(self) -> dict[str, Any]:
        assert self.lengths[-1] == len(self.bodies[-1])
        read: dict[str, Any] = json.loads(self.bodies[-1])
        return read


class Gate:
    """Creates on a real ledger, with Kling scripted."""

    def __init__(
        self, folder: pathlib.Path, *answers: Answer, hosts: Sequence[str] = (), commit_seconds: float = 5.0
    ) -> None:
        self.folder = folder
        self.ledger = Ledger.open(f"sqlite:///{folder / 'ledger.db'}", daemon=False, create=True)
        self.metrics = Metrics()
        self.kling = Kling(*answers)
        self.calls = BlockingCalls(4, name="test")
        self.woken: list[str] = []
        self.seconds = 0.0
        self.creates = Creates(
            self.kling,
            self.ledger.gateway_creates,
            self.calls,
            self.calls,
            addresses={ACCOUNT: CallbackAddress(PUBLIC, TOKEN)},
            policy=ConsumerPolicy.parse(hosts),
            metrics=self.metrics,
            on_registered=self.woken.append,
            refused_urls=RefusedUrls(
                self.ledger.gateway_creates.refused_callbacks(), monotonic=lambda: self.seconds
            ),
            commit_seconds=commit_seconds,
        )

    async def post(self, body: object, path: str = GENERATIONS) -> GatewayAnswer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.creates.handle(self.request(RequestBody(raw, self.calls), path))

    def request(self, body: RequestBody, path: str = GENERATIONS) -> GatewayRequest:
        client = Client(ACCOUNT, b"Bearer x")
        kind: Any = "create"
        return GatewayRequest("POST", path.encode(), b"", [], body, client, kind)

    def count(self, result: CreateResult) -> float:
        value = self.metrics.registry.get_sample_value("kling_gateway_creates_total", {"result": result})
        assert value is not None
        return value

    def told(self, task_id: str = "t-1") -> tuple[str | None, object]:
        with self.ledger.database.read() as connection:
            row = connection.exec_driver_sql(
                "SELECT client_callback_url, request FROM tasks WHERE task_id = ?", (task_id,)
            ).one()
        return row[0], json.loads(row[1]) if row[1] else None

    def open_references(self) -> list[str | None]:
        with self.ledger.database.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT client_callback_url FROM gateway_creates WHERE state = 'open'"
            )
            return [row[0] for row in rows]

    async def settle(self) -> None:
        """Let what is written later be written."""
        await self.creates.close(seconds=PATIENCE_SECONDS)


@pytest.fixture
def gate(tmp_path: pathlib.Path) -> Callable[..., contextlib.AbstractAsyncContextManager[Gate]]:
    @contextlib.asynccontextmanager
    async def opened(*answers: Answer, **options: Any) -> AsyncIterator[Gate]:
        made = Gate(tmp_path, *answers, **options)
        try:
            yield made
            await made.settle()
        finally:
            made.ledger.close()
            made.calls.close()

    return opened


Opened = Callable[..., contextlib.AbstractAsyncContextManager[Gate]]


def run(story: Awaitable[_Result]) -> _Result:
    async def within() -> _Result:
        async with asyncio.timeout(3 * PATIENCE_SECONDS):
            return await story

    return asyncio.run(within())


def token_segment(url: str) -> str:
    assert url.startswith(f"{PUBLIC}/callbacks/")
    return url.removeprefix(f"{PUBLIC}/callbacks/").partition("/")[0]


def test_a_clients_callback_url_is_kept_and_ours_sent_in_its_place(gate: Opened) -> None:
    async def story() -> None:
        async with gate() as it:
            body = b'{ "prompt":"a fox", "callback_url": "%b" ,"external_task_id":"e-1"}' % CLIENT.encode()
            answer = await it.post(body)

            assert json.loads(answer.body)["data"]["task_id"] == "t-1"  # type: ignore[arg-type]
            ours = it.kling.last["callback_url"]
            assert ours.startswith(f"{PUBLIC}/callbacks/{TOKEN}.")
            assert ours.endswith("/images/generations")
            assert it.kling.bodies == [body.replace(CLIENT.encode(), ours.encode())]
            assert it.told() == (CLIENT, {"prompt": "a fox"})
            assert it.open_references() == []
            assert it.woken == [ACCOUNT]
            assert it.ledger.registrations.known("e-1", account=ACCOUNT) is not None
            assert it.count(CreateResult.REGISTERED) == 1

    run(story())


def test_the_new_standard_has_its_callback_url_in_options_and_its_id_under_id(gate: Opened) -> None:
    async def story() -> None:
        async with gate(said(data={"id": "n-1", "status": "submitted"})) as it:
            await it.post({"contents": [], "options": {"callback_url": CLIENT, "external_task_id": "e"}}, NEW)

            assert it.kling.last["options"]["callback_url"].endswith("/tasks/video")
            assert it.told("n-1") == (CLIENT, {"contents": [], "options": {}})

    run(story())


def test_a_create_without_a_callback_url_gets_one_of_ours_and_queues_no_forward(gate: Opened) -> None:
    async def story() -> None:
        async with gate() as it:
            for body in (b'{"prompt":"a"}', b'{"prompt":"a","callback_url":""}'):
                await it.post(body)
                assert it.kling.last["callback_url"] == f"{PUBLIC}/callbacks/{TOKEN}/images/generations"
            assert it.told("t-1") == it.told("t-2") == (None, {"prompt": "a"})

    run(story())


REFUSED_URLS = [
    (17, "string"),
    (None, "string"),
    (["https://app.example.com"], "string"),
    ("ftp://app.example.com/", "neither https nor http"),
    ("http://app.example.com/", "plain http"),
    ("https://user:secret@app.example.com/", "user name"),
    ("https://127.0.0.1/", "IP address"),
    ("https://[::1]/", "IP address"),
    ("https://0x7f000001/", "IP address"),
    ("https://2130706433/", "IP address"),
    ("https://localhost:9/", "this machine"),
    ("https://app.example.com/\r\nX-Injected: 1", "control character"),
    ("https://app.example.com/\n", "control character"),
    ("https://app.example.com\\@127.0.0.1/", "backslash"),
    ("javascript:alert(1)", "absolute"),
    ("app.example.com/cb", "absolute"),
    ("https://app.example.com/" + "x" * 20_000, "at most 8192 bytes"),
]


def test_a_callback_url_that_we_would_not_call_is_refused_and_kling_is_not_asked(gate: Opened) -> None:
    async def story() -> None:
        async with gate() as it:
            for value, named in REFUSED_URLS:
                given = json.dumps(value)
                for body in (
                    f'{{"callback_url":{given}}}',
                    f'{{"options":{{"callback_url":{given}}}}}',
                    f'{{"callback_url":{given},"callback_url":"{CLIENT}"}}',
                ):
                    answer = await it.post(body.encode())

                    assert (answer.status, answer.source) == (400, Source.GATEWAY), body
                    assert isinstance(answer.body, bytes)
                    said = json.loads(answer.body)
                    assert said["code"] == 1201
                    assert "callback_url" in said["message"]
                    assert named in said["message"]
                    assert "secret" not in said["message"]
            assert it.kling.bodies == []
            assert it.open_references() == []

    run(story())


def test_a_callback_url_that_leads_to_us_is_none_of_a_clients(gate: Opened) -> None:
    """It is what an application named that asked Kling directly before."""
    ours = f"{PUBLIC}/callbacks/a-callback-token-of-24-chars/images/generations"

    async def story() -> None:
        async with gate() as it:
            for number, url in enumerate(
                [ours, ours.replace("kling.example.com", "KLING.example.com:443")], 1
            ):
                await it.post({"callback_url": url})
                assert it.kling.last["callback_url"] == f"{PUBLIC}/callbacks/{TOKEN}/images/generations"
                assert it.told(f"t-{number}")[0] is None
            await it.post({"callback_url": ours, "options": {"callback_url": CLIENT}})
            assert it.told("t-3")[0] == CLIENT
            await it.post({"callback_url": f"{PUBLIC}/our-app"})
            assert it.told("t-4")[0] == f"{PUBLIC}/our-app"

    run(story())


def test_an_origin_of_the_settings_may_be_private_and_plain(gate: Opened) -> None:
    async def story() -> None:
        async with gate(hosts=["http://127.0.0.1:9000"]) as it:
            await it.post({"callback_url": "http://127.0.0.1:9000/cb"})
            assert it.told()[0] == "http://127.0.0.1:9000/cb"

    run(story())


def test_a_body_that_is_no_json_object_goes_on_untouched_and_is_counted(gate: Opened) -> None:
    bodies = [b"prompt=a+fox", b'["a"]', b'{"prompt":"a"', b'{"prompt":"\xff"}', b"", b"\x1f\x8b"]

    async def story() -> None:
        async with gate() as it:
            for body in bodies:
                await it.post(body)

            assert it.kling.bodies == bodies
            assert it.count(CreateResult.UNREADABLE) == len(bodies)
            assert it.woken == []

    run(story())


def test_a_ledger_that_cannot_be_written_in_time_keeps_no_client_and_kling_calls_it(gate: Opened) -> None:
    async def story() -> None:
        async with gate(commit_seconds=0.05) as it:
            body = b'{"callback_url":"%b"}' % CLIENT.encode()
            hangs = threading.Event()
            commit = it.ledger.gateway_creates.commit

            def late(**changes: Any) -> list[bool]:
                hangs.wait(PATIENCE_SECONDS)
                return commit(**changes)

            it.ledger.gateway_creates.commit = late  # type: ignore[method-assign]
            answer = await it.post(body)

            assert answer.status == 200
            assert it.kling.bodies == [body]
            assert it.count(CreateResult.UNREFERENCED) == 1
            hangs.set()
            await it.settle()
            assert it.open_references() == []
            assert it.told()[0] is None

    run(story())


def test_a_create_is_sent_again_only_if_kling_refuses_it_for_its_callback_url(gate: Opened) -> None:
    def refuse(code: int, message: str, status: int = 400) -> GatewayAnswer:
        return said(code, status=status, message=message)

    async def story() -> None:
        others = [
            refuse(1201, "prompt is too long"),
            refuse(1301, "callback_url is unsafe"),
            refuse(1201, "callback_url", status=500),
            refuse(5000, "callback_url", status=500),
        ]
        async with gate(*others) as it:
            for _ in range(len(others)):
                await it.post({"callback_url": CLIENT})
            assert len(it.kling.bodies) == len(others)
        async with gate(refuse(1201, "unknown parameter: callback_url"), created(), created("t-2")) as it:
            answer = await it.post(b'{"prompt":"a","callback_url":"%b"}' % CLIENT.encode())

            assert answer.status == 200
            assert it.kling.bodies[1] == b'{"prompt":"a"}'
            assert it.told() == (CLIENT, {"prompt": "a"})
            await it.post(b'{"prompt":"b","callback_url":"%b"}' % CLIENT.encode())
            await it.post(b'{"prompt":"c"}')
            assert it.kling.bodies[2:] == [b'{"prompt":"b"}', b'{"prompt":"c"}']
            assert it.told("t-2")[0] == CLIENT
            await it.post({"prompt": "d"}, "/v1/images/omni-image")
            assert "callback_url" in it.kling.last
            await it.settle()
        async with gate() as it:  # after a restart
            await it.post(b'{"prompt":"e"}')
            assert it.kling.bodies == [b'{"prompt":"e"}']
            it.seconds += 24 * 3600 + 1  # the door may have been out of Kling's reach for a while
            await it.post(b'{"prompt":"f"}')
            assert "callback_url" in it.kling.last

    run(story())


def test_a_path_is_not_blamed_for_a_create_that_is_refused_without_a_callback_url_too(gate: Opened) -> None:
    async def story() -> None:
        refused = said(1201, status=400, message="bad: prompt, callback_url")
        async with gate(refused, refused) as it:
            answer = await it.post({"callback_url": CLIENT})
            assert answer.status == 400
            await it.post({"callback_url": CLIENT})
            assert "callback_url" in it.kling.last

    run(story())


def test_a_refused_create_leaves_no_reference(gate: Opened) -> None:
    async def story() -> None:
        answers = [said(1303, status=429), said(1101, status=429), NotReached("refused")]
        async with gate(*answers) as it:
            await it.post({"callback_url": CLIENT})
            await it.post({"callback_url": CLIENT})
            with pytest.raises(NotReached):
                await it.post({"callback_url": CLIENT})
            await it.settle()
            assert it.open_references() == []
            assert it.count(CreateResult.REFUSED) == 2

    run(story())


@pytest.mark.parametrize(
    "answer",
    [
        NoAnswer("cut"),
        said(5000, status=500),
        said(data={}),
        said(data={"task_id": "../x"}),
        GatewayAnswer(200, [], b"<html>", Source.KLING),
        GatewayAnswer(403, [], b"<html>", Source.KLING),
    ],
    ids=["cut", "5000", "no-id", "bad-id", "html", "403"],
)
def test_an_unknown_outcome_keeps_the_reference_for_the_callback(gate: Opened, answer: Answer) -> None:
    async def story() -> None:
        async with gate(answer) as it:
            with contextlib.suppress(NoAnswer):
                await it.post({"callback_url": CLIENT})
            assert it.open_references() == [CLIENT]
            assert len(it.kling.bodies) == 1
            assert it.count(CreateResult.NO_ANSWER) == 1

    run(story())


@pytest.mark.parametrize(
    ("answer", "is_noted"),
    [
        (said(5000, status=500), True),
        (said(5002, status=504), True),
        (said(data={}), False),
        (GatewayAnswer(502, [], b"<html>", Source.KLING), False),
        (NoAnswer("cut"), False),
    ],
    ids=["5000", "5002", "no-id", "html", "cut"],
)
def test_an_error_of_klings_is_noted_so_that_no_task_is_matched_by_its_time(
    gate: Opened, answer: Answer, is_noted: bool
) -> None:
    async def story() -> None:
        async with gate(answer) as it:
            with contextlib.suppress(NoAnswer):
                await it.post({"callback_url": CLIENT})
            await it.settle()
            with it.ledger.database.read() as connection:
                query = "SELECT answered_at IS NOT NULL FROM gateway_creates"
                assert [bool(row[0]) for row in connection.exec_driver_sql(query)] == [is_noted]

    run(story())


def test_a_success_is_registered_in_whatever_form_kling_names_the_external_id(gate: Opened) -> None:
    """An error would make the client pay twice."""
    forms = [
        ("mine-1", "MINE-1"),
        ("cafe\u0301", "caf\u00e9"),
        ("a&b", "a&amp;b"),
        ("a/b", "a_b"),
        ("a b", "a+b"),
        ("007", 7),
        ("mine-1", "options-1"),
        ("mine-1", ""),
    ]

    async def story() -> None:
        answers = [
            created(f"t-{number}", task_info={"external_task_id": shown})
            for number, (_, shown) in enumerate(forms)
        ]
        async with gate(*answers) as it:
            for number, (sent, _) in enumerate(forms):
                options = {"external_task_id": "options-1"}
                body = {"external_task_id": sent, "options": options, "callback_url": CLIENT}
                assert await it.post(body) is answers[number]
                assert it.told(f"t-{number}")[0] == CLIENT
            assert it.open_references() == []
            assert it.count(CreateResult.REGISTERED) == len(forms)

    run(story())


def test_a_client_that_leaves_has_its_task_registered_all_the_same(gate: Opened) -> None:
    async def story() -> None:
        async with gate() as it:
            it.kling.may_answer = asyncio.Event()
            leaving = asyncio.create_task(it.post({"callback_url": CLIENT}))
            await it.kling.begun.wait()
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            it.kling.may_answer.set()
            await it.settle()

            assert it.told()[0] == CLIENT
            assert it.open_references() == []

    run(story())


def test_a_create_that_kling_does_not_answer_before_the_process_ends_is_logged_and_keeps_its_reference(
    gate: Opened,
) -> None:
    async def story() -> None:
        async with gate() as it:
            it.kling.may_answer = asyncio.Event()
            left = asyncio.create_task(it.post({"callback_url": CLIENT}))
            await it.kling.begun.wait()
            with structlog.testing.capture_logs() as lines:
                await it.creates.close(seconds=0.01)
            with pytest.raises(asyncio.CancelledError):
                await left

            said = [(line["event"], line["account"], line["family"]) for line in lines]
            assert said == [("create.unanswered", ACCOUNT, "images/generations")]
            assert it.count(CreateResult.NO_ANSWER) == 1
            assert it.open_references() == [CLIENT]

    run(story())


def test_a_task_that_cannot_be_registered_in_time_is_registered_later(
    gate: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(later, "FIRST_SECONDS", 0.0)

    async def story() -> None:
        async with gate() as it:
            commit, failures = it.ledger.gateway_creates.commit, iter(range(2))

            def unlucky(**changes: Any) -> list[bool]:
                if changes.get("created") and next(failures, None) is not None:
                    raise LedgerUnavailable("full")
                return commit(**changes)

            it.ledger.gateway_creates.commit = unlucky  # type: ignore[method-assign]
            answer = await it.post({"callback_url": CLIENT})
            assert answer.status == 200
            await it.settle()
            assert it.told()[0] == CLIENT
            assert it.open_references() == []

    run(story())


@pytest.mark.parametrize("failures", [1, 100])
def test_whatever_fails_when_a_task_is_registered_its_client_has_the_answer_of_kling(
    gate: Opened, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    monkeypatch.setattr(later, "FIRST_SECONDS", 0.0)

    async def story() -> None:
        async with gate() as it:
            commit, left = it.ledger.gateway_creates.commit, iter(range(failures))

            def broken(**changes: Any) -> list[bool]:
                if changes.get("created") and next(left, None) is not None:
                    raise ValueError("a defect")
                return commit(**changes)

            it.ledger.gateway_creates.commit = broken  # type: ignore[method-assign]
            answer = await it.post({"callback_url": CLIENT})
            assert (answer.status, answer.source) == (200, Source.KLING)
            await it.settle()
            if failures == 1:
                assert it.told()[0] == CLIENT
            assert it.open_references() == ([] if failures == 1 else [CLIENT])

    run(story())


def test_creates_that_come_together_are_committed_together_and_a_bad_one_fails_alone(gate: Opened) -> None:
    async def story() -> None:
        async with gate() as it:
            commit, sizes = it.ledger.gateway_creates.commit, list[int]()

            def counting(**changes: Any) -> list[bool]:
                sizes.append(sum(map(len, changes.values())))
                if any(create.external_task_id == "bad" for create in changes["begun"]):
                    raise ValueError("bad")
                return commit(**changes)

            it.ledger.gateway_creates.commit = counting  # type: ignore[method-assign]
            answers = await asyncio.gather(*(it.post({"callback_url": CLIENT}) for _ in range(20)))
            assert [answer.status for answer in answers] == [200] * 20
            assert len(sizes) < 40
            assert max(sizes) > 1
            bad = it.post({"callback_url": CLIENT, "external_task_id": "bad"})
            good = [it.post({"callback_url": CLIENT}) for _ in range(5)]
            answers = await asyncio.gather(bad, *good)
            assert [answer.status for answer in answers] == [200] * 6
            assert it.count(CreateResult.UNREFERENCED) == 1
            assert sum(CLIENT.encode() in body for body in it.kling.bodies) == 1

    run(story())


def test_where_our_url_stands_in_an_answer_the_clients_own_is_put_back(gate: Opened) -> None:
    def echo(body: bytes) -> GatewayAnswer:
        ours = json.loads(body)["callback_url"]
        escaped = ours.replace("/", "\\/")
        text = (
            f'{{"code": 0,"message":"will call {ours}",'
            f'"data":{{ "task_id":"t-1","task_info":{{"callback_url" : "{escaped}"}}}}}}'
        )
        return GatewayAnswer(200, [], text.encode(), Source.KLING)

    async def story() -> None:
        async with gate(echo, echo) as it:
            answer = await it.post({"callback_url": CLIENT})
            assert isinstance(answer.body, bytes)
            assert answer.body.decode() == (
                f'{{"code": 0,"message":"will call {CLIENT}",'
                f'"data":{{ "task_id":"t-1","task_info":{{"callback_url" : "{CLIENT}"}}}}}}'
            )
            answer = await it.post({})
            assert isinstance(answer.body, bytes)
            assert TOKEN.encode() not in answer.body

    run(story())


def test_a_spooled_body_is_changed_on_its_way(gate: Opened, tmp_path: pathlib.Path) -> None:
    async def story() -> None:
        async with gate() as it:
            image = b"A" * 3_000_000
            raw = b'{"image":"' + image + b'","callback_url":"' + CLIENT.encode() + b'","n":1}'
            reserved = Spool(tmp_path / "spool").reserve(len(raw))
            reserved.write(raw)
            body = RequestBody(reserved, it.calls)
            await it.creates.handle(it.request(body))
            body.close()

            ours = it.kling.last["callback_url"]
            assert it.kling.bodies[0] == raw.replace(CLIENT.encode(), ours.encode())
            kept = it.told()[1]
            assert isinstance(kept, dict)
            assert kept["image"]["bytes"] == 3_000_000
            assert kept["n"] == 1

    run(story())


def test_a_body_of_many_members_is_read_beside_the_event_loop_or_goes_on_untouched(
    gate: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: list[threading.Thread] = []

    def noting(skimmed: Skimmed) -> CreateBody:
        readers.append(threading.current_thread())
        return read(skimmed)

    monkeypatch.setattr(reading, "read", noting)

    async def story() -> None:
        async with gate() as it:
            await it.post({"callback_url": CLIENT, "few": "words"})
            await it.post({"callback_url": CLIENT, "many": ["a word"] * 10_000})
            assert [thread is threading.current_thread() for thread in readers] == [True, False]
            assert it.told("t-2")[0] == CLIENT
            await it.post({"callback_url": "http://127.0.0.1/", "many": ["a word"] * 10_000})
            assert it.count(CreateResult.REFUSED_URL) == 1
            body = json.dumps({"callback_url": CLIENT} | {f"name-{n}": n for n in range(1000)}).encode()
            await it.post(body)
            assert it.kling.bodies[-1] == body
            assert it.count(CreateResult.UNREADABLE) == 1

    run(story())


def test_what_is_too_much_to_keep_of_a_request_is_left_out(gate: Opened) -> None:
    async def story() -> None:
        async with gate() as it:
            await it.post({"words": ["a b"] * 30_000, "callback_url": CLIENT})
            assert it.told() == (CLIENT, None)
            nested: object = 1
            for _ in range(400):
                nested = {"a": [nested]}
            await it.post({"nested": nested, "callback_url": CLIENT})
            assert it.told("t-2")[0] == CLIENT

    run(story())
