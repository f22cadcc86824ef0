"""What an application is told, and what comes of each try: real ledger, real HTTP, a clock that jumps."""

import base64
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import standardwebhooks
import structlog.testing

from archiver import log
from archiver.archive.manifest import Manifest
from archiver.create.callback_urls import CallbackUrls
from archiver.fetch.connecting import resolve
from archiver.fetch.urls import ConsumerPolicy, vet_own
from archiver.forward.stage import ForwardAccount, Forwarder, Operator, Taken
from archiver.forward.urls import DurableUrls, UrlKind
from archiver.ledger import OPERATOR_CONSUMER, ForwardLease, ForwardState
from archiver.metrics import Metrics
from archiver.model import DiscoveredBy, Role, Stage, State, Status, Task
from archiver.store.links import LinkSigner
from archiver.webhooks.sender import Signing, WebhookSender
from tests.harness.consumer import SECRET, Consumer, answering, consumer
from tests.harness.fake_store import FakeStore
from tests.harness.ledgers import (
    ACCOUNT,
    DAY,
    FAMILY,
    HOUR,
    SECOND,
    START,
    Desk,
    answer,
    asset,
    stored,
)

CLIENT_SECRET = "whsec_" + base64.b64encode(b"kling's own for this account").decode()
LINK_SECRET = "a-link-secret-of-at-least-32-characters"
PUBLIC_URL = "https://kling.example.com"
CALLBACK_TOKEN = "callback-token-of-our-door"


@pytest.fixture
def desk(tmp_path: pathlib.Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    made.ledger.forwards.set_operator(is_told=True)
    yield made
    made.close()


@pytest.fixture(scope="module")
def listening() -> Iterator[Consumer]:
    with consumer() as one:
        yield one


@pytest.fixture
def hook(listening: Consumer) -> Consumer:
    listening.answer = answering(200)
    listening.requests.clear()
    listening.paths.clear()
    return listening


class Telling:
    """The forward stage of one process, try by try."""

    def __init__(
        self,
        desk: Desk,
        hook: Consumer,
        *,
        kind: UrlKind = UrlKind.LINKS,
        hosts: Sequence[str] = (),
        resolver: Callable[[str, int], Sequence[str]] = resolve,
    ) -> None:
        self.desk, self.hook, self.store = desk, hook, FakeStore()
        self.metrics = Metrics()
        signer = LinkSigner([LINK_SECRET], public_url=PUBLIC_URL)
        urls = DurableUrls(kind, "results", self.store, signer=signer, prefix="https://cdn.example.com/")
        ours = CallbackUrls([PUBLIC_URL], [CALLBACK_TOKEN])
        self.forwarder = Forwarder(
            ledger=desk.ledger,
            store=self.store,
            sender=WebhookSender(try_seconds=5, resolver=resolver),
            accounts={ACCOUNT: ForwardAccount(urls, Signing([CLIENT_SECRET]), ours)},
            operator=Operator(vet_own(hook.url), Signing([SECRET])),
            policy=ConsumerPolicy.parse(hosts),
            bucket="results",
            metrics=self.metrics,
            now=desk.clock,
            monotonic=lambda: desk.clock() / 1000,
            random=lambda: 1.0,
            retries=log.Sparing(),
        )

    def leases(self, consumer: str | None = None) -> list[ForwardLease]:
        forwards = self.desk.ledger.forwards
        names = forwards.due_consumers().names if consumer is None else [consumer]
        return [lease for name in names for lease in forwards.claim(name, accounts=[ACCOUNT], count=10)]

    def try_all(self) -> list[Taken]:
        asked_at = self.desk.clock() / 1000
        return [self.forwarder.forward(lease, asked_at=asked_at)[0] for lease in self.leases()]

    def told(self) -> dict[str, Any]:
        """The body of the last request."""
        body: dict[str, Any] = json.loads(self.hook.requests[-1][1])
        return body

    def states(self) -> list[ForwardState]:
        return [view.state for view in self.desk.ledger.forward_orders.list(account=ACCOUNT)]

    def results(self) -> dict[str, float]:
        counter = self.metrics.registry.get_sample_value
        names = ("ok", "retry", "gone", "refused")
        counts = {name: counter("kling_forward_deliveries_total", {"result": name}) or 0 for name in names}
        return {name: count for name, count in counts.items() if count}


@pytest.fixture
def telling(desk: Desk, hook: Consumer) -> Telling:
    return Telling(desk, hook)


def legacy(task_id: str = "t", *, urls: Sequence[str] = ("https://cdn.klingai.com/0.png?sig=x",)) -> Task:
    """A task as the API shows it on its own path."""
    images = [{"index": place, "url": url} for place, url in enumerate(urls)]
    document = {
        "task_id": task_id,
        "task_status": "succeed",
        "task_status_msg": "",
        "task_info": {"external_task_id": "mine"},
        "created_at": START,
        "updated_at": START + 24 * SECOND,
        "task_result": {"images": images},
    }
    assets = tuple(asset(str(place), url) for place, url in enumerate(urls))
    return dataclasses.replace(answer(task_id, assets=assets), document=document)


def archive(desk: Desk, task: Task) -> None:
    desk.say(task)
    files = [stored(each.stem) for each in task.assets]
    lease = desk.claim(Stage.ARCHIVE)
    desk.ledger.outcomes.archived(lease, manifest_key="f/manifest.json", archived_at=START, stored=files)


def created_through_the_gateway(desk: Desk, url: str) -> None:
    desk.tell()
    desk.write("UPDATE tasks SET client_callback_url = ?", url)
    desk.ledger.forwards.set_operator(is_told=False)


LINK = f"{PUBLIC_URL}/files/{{}}/default/images/generations/2026/09/21/t/0.png"


def test_the_operator_gets_an_archived_task_in_the_shape_of_its_callback(
    desk: Desk, telling: Telling, hook: Consumer
) -> None:
    task = legacy()
    archive(desk, task)
    assert telling.try_all() == [Taken.YES]

    headers, body = hook.requests[-1]
    standardwebhooks.Webhook(SECRET).verify(body, headers)
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"].startswith("fwd_")
    told = telling.told()
    archived = told.pop("archive")
    link = told["task_result"]["images"][0]["url"]
    assert link == LINK.format(link.split("/")[4])
    assert told == json.loads(json.dumps(task.document).replace("https://cdn.klingai.com/0.png?sig=x", link))
    assert archived == {
        "account": ACCOUNT,
        "family": FAMILY,
        "task_id": "t",
        "state": "archived",
        "reason": None,
        "manifest_key": "f/manifest.json",
        "amends": None,
        "bucket": "results",
        "objects": [
            {
                "name": "0.png",
                "key": stored().key,
                "url": link,
                "sha256": stored().sha256,
                "bytes": 10,
                "content_type": "image/png",
            }
        ],
    }
    assert (telling.states(), telling.results()) == ([ForwardState.DELIVERED], {"ok": 1})


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        (UrlKind.S3, f"s3://results/{stored().key}"),
        (UrlKind.PRESIGNED, f"https://store.invalid/{stored().key}?seconds=604800"),
        (UrlKind.PREFIX, f"https://cdn.example.com/{stored().key}"),
    ],
)
def test_urls_are_of_the_kind_that_the_settings_ask_for(
    desk: Desk, hook: Consumer, kind: UrlKind, url: str
) -> None:
    telling = Telling(desk, hook, kind=kind)
    archive(desk, legacy())
    telling.try_all()

    told = telling.told()
    assert told["task_result"]["images"][0]["url"] == told["archive"]["objects"][0]["url"] == url


def test_a_forward_of_a_new_standard_task_has_its_dialect(desk: Desk, telling: Telling) -> None:
    outputs = [{"type": "image", "url": "https://cdn.klingai.com/0.png"}]
    document = {"id": "t", "status": "succeeded", "create_time": START, "outputs": outputs}
    archive(desk, dataclasses.replace(answer(family="tasks/image"), document=document))
    telling.try_all()

    told = telling.told()
    assert (told["id"], told["status"]) == ("t", "succeeded")
    assert told["outputs"][0]["url"].startswith(f"{PUBLIC_URL}/files/")


def test_a_forward_of_a_lost_task_has_the_status_that_the_api_gave(desk: Desk, telling: Telling) -> None:
    desk.say(legacy(urls=["https://cdn.klingai.com/0.png", "https://cdn.klingai.com/1.png"]))
    desk.clock.advance(30 * DAY)
    desk.ledger.deadlines.expire()
    telling.try_all()

    told = telling.told()
    assert (told["task_status"], told["archive"]["state"]) == ("succeed", "lost")
    assert (told["archive"]["reason"], told["archive"]["manifest_key"]) == ("deadline_passed", None)
    assert told["archive"]["objects"] == []


def test_a_forward_of_a_failed_task_says_failed_also_if_it_never_finished(
    desk: Desk, telling: Telling
) -> None:
    running = {"task_id": "t", "task_status": "processing", "task_result": {}}
    desk.say(dataclasses.replace(answer(status=Status.RUNNING), document=running))
    for _ in range(31):
        desk.clock.advance(DAY)
        desk.say(answer(status=Status.RUNNING))
    desk.ledger.deadlines.expire()
    telling.try_all()

    told = telling.told()
    assert (told["task_status"], told["task_status_msg"]) == ("failed", "never_finished")
    assert (told["archive"]["state"], told["archive"]["reason"]) == ("failed", "never_finished")


def test_a_forward_of_an_amendment_has_all_files_and_the_amendments_key(desk: Desk, telling: Telling) -> None:
    archive(desk, legacy())
    more = legacy(urls=["https://cdn.klingai.com/0.png", "https://cdn.klingai.com/1.png"])
    desk.say(more)
    work = desk.ledger.folder_work.claim(account=ACCOUNT)
    assert work is not None
    files = [stored("0"), stored("1")]
    desk.ledger.folder_work.amended(work.lease, keys=["f/amendment-1.json"], stored=files)
    telling.try_all()
    telling.try_all()

    told = telling.told()
    archive_ = told["archive"]
    assert (archive_["state"], archive_["amends"]) == ("amended", "manifest.json")
    assert archive_["manifest_key"] == "f/amendment-1.json"
    assert [each["name"] for each in archive_["objects"]] == ["0.png", "1.png"]
    assert all(image["url"].startswith(PUBLIC_URL) for image in told["task_result"]["images"])


def test_a_forward_that_is_sent_again_a_year_later_is_read_from_the_bucket(
    desk: Desk, telling: Telling
) -> None:
    task = legacy()
    archive(desk, task)
    telling.try_all()
    first = telling.told()
    manifest = Manifest(
        account=ACCOUNT,
        family=FAMILY,
        task_id="t",
        external_task_id=None,
        created_at=START,
        updated_at=START,
        archived_at=START,
        discovered_by=DiscoveredBy.CALLBACK,
        assets=(dataclasses.replace(stored(), role=Role.IMAGE),),
        request=None,
        task=task.document,
    )
    desk.ledger.forward_orders.retry(["t"], account=ACCOUNT)
    assert telling.try_all() == [Taken.NOTHING]  # the bucket has no manifest
    telling.store.place("f/manifest.json", manifest.to_bytes())
    desk.clock.advance(HOUR)
    assert telling.try_all() == [Taken.YES]

    assert telling.told() == first
    ids = [headers["webhook-id"] for headers, _ in telling.hook.requests]
    assert len(ids) == 2
    assert len(set(ids)) == 1


@pytest.mark.parametrize("new_standard", [False, True])
def test_a_late_or_repeated_forward_of_a_failure_is_unchanged_although_the_task_was_archived_since(
    desk: Desk, telling: Telling, hook: Consumer, new_standard: bool
) -> None:
    failed: dict[str, Any] = {"task_id": "t", "task_status": "failed", "task_status_msg": "policy"}
    task, family = legacy(), FAMILY
    if new_standard:
        failed = {"id": "t", "status": "failed", "message": "policy"}
        family = "tasks/image"
        document = {"id": "t", "status": "succeeded", "outputs": [{"type": "image", "url": "https://c/0"}]}
        task = dataclasses.replace(answer(family=family), document=document)
    said = answer(status=Status.FAILED, message="policy", family=family)
    desk.say(dataclasses.replace(said, document=failed))
    desk.ledger.registrations.retry(["t"], account=ACCOUNT)
    archive(desk, task)
    assert telling.try_all() == [Taken.YES]
    told = telling.told()
    assert {name: told[name] for name in failed} == failed
    archived = told["archive"]
    assert (archived["state"], archived["reason"], archived["objects"]) == ("failed", "failed_upstream", [])
    assert archived["manifest_key"] is None

    telling.try_all()
    hook.requests.clear()
    desk.ledger.forward_orders.retry(["t"], account=ACCOUNT)
    telling.try_all()
    assert telling.told() == told
    desk.write("UPDATE forwards SET document = NULL")  # as an earlier version left it
    desk.ledger.forward_orders.retry(["t"], account=ACCOUNT)
    hook.requests.clear()
    telling.try_all()
    bare = telling.told()
    assert {name: bare[name] for name in failed} == failed


def test_a_late_or_repeated_forward_of_a_lost_task_is_unchanged(
    desk: Desk, telling: Telling, hook: Consumer
) -> None:
    task = legacy()
    desk.say(task)
    desk.clock.advance(30 * DAY)
    desk.ledger.deadlines.expire()
    lease = desk.claim(Stage.ARCHIVE)
    desk.ledger.outcomes.archived(lease, manifest_key="m", archived_at=desk.clock(), stored=[stored()])
    telling.try_all()
    told = telling.told()
    assert (told["task_id"], told["task_status"]) == ("t", "succeed")
    archived = told["archive"]
    assert (archived["state"], archived["reason"], archived["objects"]) == ("lost", "deadline_passed", [])

    telling.try_all()
    hook.requests.clear()
    desk.ledger.forward_orders.retry(["t"], account=ACCOUNT)
    telling.try_all()
    assert telling.told() == told


@pytest.mark.parametrize("is_sent_by_order", [False, True])
def test_a_forward_of_a_manifest_has_its_own_files_although_it_was_amended_since(
    desk: Desk, telling: Telling, is_sent_by_order: bool
) -> None:
    archive(desk, legacy())
    desk.say(legacy(urls=["https://cdn.klingai.com/0.png", "https://cdn.klingai.com/1.png"]))
    work = desk.ledger.folder_work.claim(account=ACCOUNT)
    assert work is not None
    files = [stored("0"), stored("1")]
    desk.ledger.folder_work.amended(work.lease, keys=["f/amendment-1.json"], stored=files)
    if is_sent_by_order:
        desk.write("DELETE FROM forwards")
        orders, until = desk.ledger.forward_orders, desk.clock()
        orders.send(State.ARCHIVED, account=ACCOUNT, since=0, until=until, after=(0, 0))
        manifest = {"task": dict(legacy().document), "assets": [{"name": "0.png"}]}
        telling.store.place("f/manifest.json", json.dumps(manifest).encode())
    telling.try_all()

    archived = telling.told()["archive"]
    assert (archived["state"], archived["manifest_key"]) == ("archived", "f/manifest.json")
    assert [each["name"] for each in archived["objects"]] == ["0.png"]


# --- clients of the gateway ------------------------------------------------------------------------------------------


def test_a_client_gets_forwards_at_its_own_url_signed_as_kling_would(desk: Desk, hook: Consumer) -> None:
    origin, _, path = hook.url.partition("/hook")
    telling = Telling(desk, hook, hosts=[origin])
    created_through_the_gateway(desk, f"{origin}/of-a-client{path}")
    archive(desk, legacy())
    assert telling.try_all() == [Taken.YES]

    headers, body = hook.requests[-1]
    standardwebhooks.Webhook(CLIENT_SECRET).verify(body, headers)
    assert hook.paths == [f"/of-a-client{path}"]


def test_a_clients_url_is_judged_at_every_delivery(desk: Desk, hook: Consumer) -> None:
    telling = Telling(desk, hook, resolver=lambda _host, _port: ["10.0.0.1"])
    for url in (hook.url, "https://app.example.com/hook", "http://app.example.com/", "no url"):
        created_through_the_gateway(desk, url)
        desk.bring(State.FAILED)
        assert telling.try_all() == [Taken.NO]
        desk.write("DELETE FROM forwards")
        desk.write("DELETE FROM tasks")

    assert hook.requests == []
    assert telling.results() == {"refused": 4}


@pytest.mark.parametrize(
    "ours",
    [f"{PUBLIC_URL}/callbacks/another-token/f", f"http://10.0.0.1:8080/callbacks/{CALLBACK_TOKEN}.ref/f"],
)
def test_our_callback_url_is_in_no_forward(desk: Desk, hook: Consumer, ours: str) -> None:
    origin = hook.url.partition("/hook")[0]
    telling = Telling(desk, hook, hosts=[origin])
    clients = f"{origin}/of-a-client"
    created_through_the_gateway(desk, clients)
    desk.ledger.forwards.set_operator(is_told=True)
    info = {"callback_url": ours, "parent": {"url": f"{PUBLIC_URL}/other"}}
    failed = {"task_id": "t", "task_status": "failed", "task_status_msg": f"to {ours}: no", "task_info": info}
    desk.say(dataclasses.replace(answer(status=Status.FAILED, message=f"to {ours}"), document=failed))
    assert telling.try_all() == [Taken.YES] * 2

    told = dict(zip(hook.paths, (json.loads(body) for _, body in hook.requests), strict=True))
    assert "/callbacks/" not in json.dumps(told)
    assert told.pop("/of-a-client")["task_info"] == {**info, "callback_url": clients}
    (operator,) = told.values()
    assert operator["task_info"] == {**info, "callback_url": ""}
    assert operator["task_status_msg"] == "to  no"


def test_a_running_status_is_sent_once_and_never_retried(desk: Desk, hook: Consumer) -> None:
    origin = hook.url.partition("/hook")[0]
    telling = Telling(desk, hook, hosts=[origin])
    created_through_the_gateway(desk, f"{origin}/client")
    running = {"task_id": "t", "task_status": "processing", "task_result": {}}
    desk.say(dataclasses.replace(answer(status=Status.RUNNING), document=running))
    hook.answer = answering(500)
    telling.try_all()
    desk.clock.advance(DAY)
    telling.try_all()

    assert len(hook.requests) == 1
    told = telling.told()
    assert (told["task_status"], told["archive"]["state"]) == ("processing", "running")
    assert desk.ledger.views.status().dead_forwards == ()


# --- consumers that do not take it -----------------------------------------------------------------------------------


def test_a_refused_forward_is_tried_again_after_2_s_doubling_to_an_hour_for_seven_days(
    desk: Desk, telling: Telling, hook: Consumer
) -> None:
    hook.answer = answering(500)
    desk.bring(State.FAILED)
    waits = []
    with structlog.testing.capture_logs() as lines:
        while telling.states() == [ForwardState.WAITING]:
            telling.try_all()
            (view,) = desk.ledger.forward_orders.list(account=ACCOUNT)
            if view.due_at is not None:
                waits.append((view.due_at - desk.clock()) // SECOND)
                desk.clock.advance(view.due_at - desk.clock())

    assert waits[:12] == [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600]
    assert set(waits[12:]) == {3600}
    assert 7 * DAY <= desk.clock() - START < 7 * DAY + HOUR
    (dead,) = [line for line in lines if line["event"] == "forward.dead"]
    assert (dead["task_id"], dead["reason"], dead["log_level"]) == ("t", "consumer_refused", "error")
    (problem,) = desk.ledger.views.status().dead_forwards
    assert problem.task_ids == ("t",)
    assert "hidden" not in str(lines)
    assert hook.url.partition("?")[2] not in str(lines)


def test_a_bug_of_ours_is_a_failed_try_and_ends_after_seven_days(
    desk: Desk, hook: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    telling = Telling(desk, hook, kind=UrlKind.PRESIGNED)
    archive(desk, legacy())

    def fail(*_args: object, **_options: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(telling.store, "presigned", fail)
    assert telling.try_all() == [Taken.NOTHING]
    (view,) = desk.ledger.forward_orders.list(account=ACCOUNT)
    assert (view.state, view.reason, view.due_at) == (
        ForwardState.WAITING,
        "unexpected",
        desk.clock() + 2 * SECOND,
    )
    desk.clock.advance(7 * DAY)
    telling.try_all()

    assert telling.states() == [ForwardState.DEAD]
    (problem,) = desk.ledger.views.status().dead_forwards
    assert problem.task_ids == ("t",)
    assert telling.results() == {"retry": 2}


def test_a_deeply_nested_task_is_forwarded(desk: Desk, telling: Telling) -> None:
    deep: dict[str, object] = {}
    for _ in range(600):
        deep = {"a": deep}
    task = legacy()
    archive(desk, dataclasses.replace(task, document={**task.document, "extra": deep}))

    assert telling.try_all() == [Taken.YES]


def test_after_three_days_of_500_an_application_gets_every_forward_with_its_first_id(
    desk: Desk, telling: Telling, hook: Consumer
) -> None:
    hook.answer = answering(500)
    for place in range(5):
        desk.bring(State.FAILED, f"t{place}")
    for _ in range(3 * 4):
        telling.try_all()
        desk.clock.advance(6 * HOUR)
    tried = {headers["webhook-id"] for headers, _ in hook.requests}
    hook.answer = answering(204)
    hook.requests.clear()
    telling.try_all()

    assert {headers["webhook-id"] for headers, _ in hook.requests} == tried
    assert telling.states() == [ForwardState.DELIVERED] * 5


@pytest.mark.parametrize(
    ("status", "taken", "state", "result"),
    [
        (200, Taken.YES, ForwardState.DELIVERED, "ok"),
        (299, Taken.YES, ForwardState.DELIVERED, "ok"),
        (307, Taken.NO, ForwardState.WAITING, "retry"),
        (404, Taken.NO, ForwardState.WAITING, "retry"),
        (410, Taken.NOTHING, ForwardState.DEAD, "gone"),
        (429, Taken.NO, ForwardState.WAITING, "retry"),
        (503, Taken.NO, ForwardState.WAITING, "retry"),
    ],
)
def test_only_2xx_accepts_a_forward_and_only_410_ends_it(
    desk: Desk, telling: Telling, hook: Consumer, status: int, taken: Taken, state: ForwardState, result: str
) -> None:
    hook.answer = answering(status, Location="/elsewhere")
    desk.bring(State.FAILED)
    assert telling.try_all() == [taken]

    assert len(hook.requests) == 1
    assert (telling.states(), telling.results()) == ([state], {result: 1})
    assert desk.ledger.views.status().dead_forwards == ()  # 410 is no problem for the operator
    (view,) = desk.ledger.forward_orders.list(account=ACCOUNT)
    assert view.last_status == status


def test_a_lease_that_is_nearly_over_is_given_back_and_nothing_is_sent(
    desk: Desk, telling: Telling, hook: Consumer
) -> None:
    desk.bring(State.FAILED)
    (lease,) = telling.leases(OPERATOR_CONSUMER)
    telling.forwarder.forward(lease, asked_at=desk.clock() / 1000 - 29)

    assert hook.requests == []
    (again,) = telling.leases(OPERATOR_CONSUMER)
    assert again.attempt == 1
