"""The forward stage as a process runs it: on threads of its own, and a hanging consumer delays no other."""

import concurrent.futures
import contextlib
import dataclasses
import http.server
import threading
import time
from collections.abc import Callable
from typing import Any

from archiver import log
from archiver.create.callback_urls import CallbackUrls
from archiver.engine.forwarding.loop import FORWARD_THREADS, HELD_FAILURES, ForwardLoop
from archiver.engine.threads import Guard
from archiver.fetch.urls import ConsumerPolicy, vet_own
from archiver.forward.stage import ForwardAccount, Forwarder, Operator
from archiver.forward.urls import DurableUrls, UrlKind
from archiver.metrics import Metrics
from archiver.model import Stage, State
from archiver.problems import Expected, find_problems
from archiver.webhooks.sender import UNSIGNED, Signing, WebhookSender
from tests.harness.consumer import SECRET, Consumer, answering, consumer
from tests.harness.fake_store import FakeStore
from tests.harness.ledgers import ACCOUNT, MINUTE, SECOND, Desk
from tests.harness.pipeline import Inline, Unwaiting


def forwarder(desk: Desk, operator: Consumer | None, *clients: Consumer) -> Forwarder:
    store = FakeStore()
    return Forwarder(
        ledger=desk.ledger,
        store=store,
        sender=WebhookSender(),
        accounts={
            ACCOUNT: ForwardAccount(DurableUrls(UrlKind.S3, "results", store), UNSIGNED, CallbackUrls([]))
        },
        operator=None if operator is None else Operator(vet_own(operator.url), Signing([SECRET])),
        policy=ConsumerPolicy.parse([client.url.partition("/hook")[0] for client in clients]),
        bucket="results",
        metrics=Metrics(),
        now=desk.clock,
        monotonic=lambda: desk.clock() / 1000,
        random=lambda: 1.0,
        retries=log.Sparing(),
    )


def by_hand(desk: Desk, operator: Consumer | None) -> ForwardLoop:
    """A loop whose tries run in the thread that steps it."""
    stop = Unwaiting()
    guard = Guard(stop=stop, on_death=lambda: None)
    monotonic = lambda: desk.clock() / 1000  # noqa: E731 -- as short as it gets
    return ForwardLoop(forwarder(desk, operator), Inline(), guard, wake=stop, monotonic=monotonic)


def created_through_the_gateway(desk: Desk, client: Consumer, *task_ids: str) -> None:
    for task_id in task_ids:
        desk.tell(task_id)
        desk.write("UPDATE tasks SET client_callback_url = ? WHERE task_id = ?", client.url, task_id)
        desk.bring(State.FAILED, task_id)


def test_an_operators_application_that_is_down_is_held_and_goes_on_by_itself(
    desk: Desk, hook: Consumer
) -> None:
    desk.ledger.forwards.set_operator(is_told=True)
    for place in range(20):
        desk.bring(State.FAILED, f"t{place}")
    hook.answer = answering(500)
    loop = by_hand(desk, hook)
    seconds = 0
    while not (holds := desk.ledger.views.status().holds):
        loop.step()
        desk.clock.advance(SECOND)
        seconds += 1
    tried = len(hook.requests)

    assert (len(holds), holds[0].stage, holds[0].reason) == (1, Stage.FORWARD, "consumer_refused")
    assert seconds <= 60
    assert HELD_FAILURES <= tried <= FORWARD_THREADS
    problems = find_problems(desk.ledger.views.status(), Expected({ACCOUNT: ()}, 1000))
    assert any(problem.code == "hold" and problem.stage == "forward" for problem in problems)
    for _ in range(60):
        loop.step()
        desk.clock.advance(SECOND)
    assert 1 <= len(hook.requests) - tried <= 6  # probes alone, although 20 are due

    hook.answer = answering(200)
    for _ in range(60):
        loop.step()
        desk.clock.advance(2 * SECOND)
    assert desk.ledger.views.status().holds == ()
    assert len(hook.taken) == 20


def test_the_hold_of_an_application_ends_with_what_waited_for_it_and_with_a_start(
    desk: Desk, hook: Consumer
) -> None:
    desk.ledger.forwards.set_operator(is_told=True)
    desk.bring(State.FAILED)
    hook.answer = answering(500)
    loop = by_hand(desk, hook)
    for _ in range(MINUTE // SECOND):
        loop.step()
        desk.clock.advance(SECOND)
    assert len(desk.ledger.views.status().holds) == 1
    assert desk.ledger.holds.drop_idle() == []

    desk.ledger.forwards.set_operator(is_told=True)  # a start, perhaps with another URL
    assert desk.ledger.views.status().holds == ()


def test_forwards_to_an_operator_url_that_this_process_does_not_know_are_left_alone(
    desk: Desk,
) -> None:
    desk.ledger.forwards.set_operator(is_told=True)
    desk.bring(State.FAILED)
    by_hand(desk, None).step()

    assert desk.rows("SELECT state, attempts FROM forwards") == [{"state": "waiting", "attempts": 0}]


class Later(concurrent.futures.ThreadPoolExecutor):
    """A pool whose work waits until the test does it."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Callable[[], object]] = []

    def submit(
        self, fn: Callable[..., Any], /, *positional: Any, **named: Any
    ) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self.waiting.append(lambda: future.set_result(fn(*positional, **named)))
        return future

    def work(self) -> None:
        waiting, self.waiting = self.waiting, []
        for do in waiting:
            do()


def test_no_client_is_tried_twice_while_another_waits_for_its_first_try(desk: Desk) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(consumer()) for _ in range(6)]
        for place, client in enumerate(clients):
            client.answer = answering(500)
            created_through_the_gateway(desk, client, f"a{place}", f"b{place}")
        pool, stop = Later(), Unwaiting()
        guard = Guard(stop=stop, on_death=lambda: None)
        told = forwarder(desk, None, *clients)
        loop = ForwardLoop(told, pool, guard, wake=stop, monotonic=told.monotonic)
        for _ in range(2):
            loop.step()
            pool.work()

    # The first round begins one for each of four clients, half of the threads.
    assert sorted(len(client.requests) for client in clients) == [1, 1, 1, 1, 2, 2]


def test_clients_that_left_tries_unanswered_before_a_restart_leave_threads_to_a_new_one(
    desk: Desk, hook: Consumer
) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(consumer()) for _ in range(6)]
        for place, client in enumerate(clients):
            created_through_the_gateway(desk, client, f"a{place}", f"b{place}")
        desk.write(
            "UPDATE forwards SET attempts = 2, reason = 'consumer_not_reached', due_at = ? "
            "WHERE task IN (SELECT id FROM tasks WHERE task_id LIKE 'b%')",
            desk.clock() + MINUTE,
        )
        created_through_the_gateway(desk, hook, "c")
        pool, stop = Later(), Unwaiting()
        guard = Guard(stop=stop, on_death=lambda: None)
        told = forwarder(desk, None, hook, *clients)
        ForwardLoop(told, pool, guard, wake=stop, monotonic=told.monotonic).step()
        pool.work()

    assert sum(len(client.requests) for client in clients) == 2, "a quarter of the threads"
    assert len(hook.requests) == 1


def test_an_operators_application_that_left_tries_unanswered_before_a_restart_has_its_share(
    desk: Desk, hook: Consumer
) -> None:
    desk.ledger.forwards.set_operator(is_told=True)
    for place in range(FORWARD_THREADS):
        desk.bring(State.FAILED, f"t{place}")
    desk.write(
        "UPDATE forwards SET attempts = 2, reason = 'consumer_not_reached', due_at = ? "
        "WHERE task = (SELECT id FROM tasks WHERE task_id = 't0')",
        desk.clock() + MINUTE,
    )
    pool, stop = Later(), Unwaiting()
    told = forwarder(desk, hook)
    guard = Guard(stop=stop, on_death=lambda: None)
    ForwardLoop(told, pool, guard, wake=stop, monotonic=told.monotonic).step()
    pool.work()

    assert len(hook.requests) == FORWARD_THREADS // 2


def test_a_client_that_hangs_delays_no_other(desk: Desk, hook: Consumer) -> None:
    let_go = threading.Event()

    def hang(request: http.server.BaseHTTPRequestHandler) -> None:
        let_go.wait(60)
        answering(200)(request)

    with consumer() as hanging, concurrent.futures.ThreadPoolExecutor(FORWARD_THREADS) as threads:
        hanging.answer = hang
        created_through_the_gateway(desk, hanging, *(f"h{place}" for place in range(20)))
        created_through_the_gateway(desk, hook, *(f"a{place}" for place in range(20)))
        wake = threading.Event()
        guard = Guard(stop=threading.Event(), on_death=lambda: None)
        told = dataclasses.replace(forwarder(desk, None, hanging, hook), monotonic=time.monotonic)
        loop = ForwardLoop(told, threads, guard, wake=wake)
        try:
            for _ in range(1000):  # each waits half a second at most, for a try to end
                if len(hook.requests) == 20:
                    break
                loop.step()
            assert len(hook.requests) == 20
            assert len(hanging.requests) == 1
        finally:
            let_go.set()
            loop.stop(seconds=30)
