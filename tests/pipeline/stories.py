"""Stories in which the pipeline comes by each of its effects, and what happens when one of them goes wrong there."""

import contextlib
import dataclasses
import http.server
import pathlib
import uuid
from collections.abc import Callable, Iterator, Mapping

from archiver.engine.forwarding.loop import HELD_FAILURES
from archiver.engine.host_watch import DOWN_IN_A_ROW
from archiver.failures import AssetGone, BucketMissing, LedgerUnavailable, Stopped, StoreUnreachable
from archiver.ledger import Ledger
from archiver.ledger.gateway_creates.by_time import AFTER_MS, MATCHED_MS
from archiver.ledger.gateway_creates.registering import CreatedTask, GatewayCreate
from archiver.model import DAY_MS, RETENTION_MS, Callback, State, Status
from tests.harness.by_hand import PostgresByHand
from tests.harness.consumer import Consumer, answering
from tests.harness.engine import ACCOUNT, FAMILY, Died
from tests.harness.fake_store import FakeObject
from tests.harness.pipeline import Pipeline
from tests.pipeline.effects import READS, Mishap, failure_of
from tests.simulator import KlingSimulator, faults

EXPAND = "images/editing/expand"
"""Only rows of its list name the watermarked files."""


def everyday(pipeline: Pipeline) -> None:
    """A callback that only its own question can verify, two that a list page answers for, and a task of which only the
    sweep knows: its callback is missing, and is counted once."""
    pipeline.tell(pipeline.task(listed=False, watermark=True), pipeline.task(), pipeline.task())
    pipeline.task()
    pipeline.missed = 1


def cdn_fails_once(pipeline: Pipeline) -> None:
    pipeline.sim.fault("cdn", faults.Raw(500), times=1)
    pipeline.tell(pipeline.task(images=2))


def cdn_is_down(pipeline: Pipeline) -> None:
    """Five tasks have no answer: their host is held until a whole file comes."""
    pipeline.sim.fault("cdn", faults.Raw(500), times=2 * DOWN_IN_A_ROW)
    pipeline.tell(*(pipeline.task(listed=False) for _ in range(DOWN_IN_A_ROW)))


def bucket_is_missing(pipeline: Pipeline) -> None:
    """The archive stage holds, and goes on by its probe. A hold that outlives the success which should have lifted it
    stands until the next one: hence a task that comes later."""
    pipeline.mishaps.plan.append(Mishap("store.put", 1, happens=False, error=BucketMissing("simulated")))
    first, later = pipeline.task(), pipeline.task(listed=False)
    pipeline.tell(first)

    def tell_later(ledger: Ledger) -> None:
        if pipeline.states()[first] is not State.ARCHIVED:
            raise LedgerUnavailable("its sender is not there yet")
        ledger.callbacks.record([Callback(ACCOUNT, later, Status.SUCCEEDED, FAMILY)])

    pipeline.errand(tell_later)


def store_fails_once(pipeline: Pipeline) -> None:
    """One failure may be the task's own; the handler looks for a hold that says otherwise."""
    pipeline.mishaps.plan.append(Mishap("store.put", 1, happens=False, error=StoreUnreachable("simulated")))
    pipeline.tell(pipeline.task())


def store_is_down_at_start(pipeline: Pipeline) -> None:
    """The first look holds the archive stage, and the next one lets it go on. A hold that outlives both is ended by the
    task's own probe."""
    pipeline.mishaps.plan.append(Mishap("store.check", 1, happens=False, error=StoreUnreachable("simulated")))
    pipeline.tell(pipeline.task())


def keys_are_refused(pipeline: Pipeline) -> None:
    """The sweep holds; the first question that is answered lets it go on."""
    pipeline.sim.fault("list", faults.ErrorCode(401, 1002), times=1)
    pipeline.tell(pipeline.task())


def an_operator_digs_up(pipeline: Pipeline) -> None:
    """A file over the limit buries the task; the operator asks for another try once that is known."""
    pipeline.sim.fault("cdn", faults.Endless(), times=1)
    task_id = pipeline.task()
    pipeline.tell(task_id)

    def retry_once_buried(ledger: Ledger) -> None:
        state = pipeline.states()[task_id]
        if state is State.BURIED:
            ledger.registrations.retry([task_id], account=ACCOUNT)
        elif state is not State.ARCHIVED:
            raise LedgerUnavailable("the operator looks again later")

    pipeline.errand(retry_once_buried)


def a_forged_id(pipeline: Pipeline) -> None:
    """Kling does not know the id; after its grace it is `unknown`."""
    pipeline.expected["forged-1"] = State.UNKNOWN
    pipeline.tell("forged-1")


def an_old_forged_id(pipeline: Pipeline) -> None:
    """It has had its 30 days, and is dropped."""
    a_forged_id(pipeline)
    pipeline.run()
    pipeline.write("UPDATE tasks SET named_at = named_at - ?", 31 * DAY_MS)
    pipeline.expected["forged-1"] = None


def signatures_have_ended(pipeline: Pipeline) -> None:
    """The URLs that the ledger has work no longer; a question brings others."""
    task_id = pipeline.task()
    pipeline.tell(task_id)
    pipeline.round(archiving=False)
    pipeline.sim.revoke_urls(task_id)


def a_lost_ledger(pipeline: Pipeline) -> None:
    """The manifest is there; no listing shows it yet, nor its image."""
    task_id = pipeline.task()
    pipeline.tell(task_id)
    pipeline.run()
    pipeline.restart(ledger_lost=True)
    pipeline.tell(task_id)
    pipeline.engine.store.unlisted.add(pipeline.engine.folder(task_id) + "0.png")


def a_stop_while_waiting(pipeline: Pipeline) -> None:
    """The limiter stops every query because the process stops: the lease is given back."""
    pipeline.mishaps.plan.append(Mishap("client.query", 1, happens=False, error=Stopped()))
    pipeline.tell(pipeline.task(listed=False))


def a_slow_file(pipeline: Pipeline) -> None:
    """So slow that the lease must be renewed before the manifest."""
    pipeline.sim.fault("cdn", faults.Call(lambda: pipeline.engine.clock.advance(seconds=20)), times=1)
    pipeline.tell(pipeline.task())


def a_registration(pipeline: Pipeline) -> None:
    task_id = pipeline.task(listed=False)
    pipeline.errand(lambda ledger: ledger.registrations.register(task_id, account=ACCOUNT, family=FAMILY))


def a_create_by_the_gateway(pipeline: Pipeline) -> None:
    """Of three creates, one is answered, one refused, and of one the answer is lost; the path takes no callback URL."""
    external_id = uuid.uuid4().hex
    task_id, lost = pipeline.task(listed=False), pipeline.task(external_task_id=external_id)
    known = GatewayCreate("r-1", ACCOUNT, FAMILY, None, None, {"prompt": "a fox"})
    refused = dataclasses.replace(known, reference="r-2")
    unheard = dataclasses.replace(known, reference="r-3", external_task_id=external_id)

    pipeline.errand(lambda ledger: ledger.gateway_creates.commit(begun=[known]))
    pipeline.errand(lambda ledger: ledger.gateway_creates.commit(created=[CreatedTask(known, task_id)]))
    pipeline.errand(lambda ledger: ledger.gateway_creates.commit(begun=[refused]))
    pipeline.errand(lambda ledger: ledger.gateway_creates.commit(refused=[refused.reference]))
    pipeline.errand(lambda ledger: ledger.gateway_creates.abandon(refused))
    pipeline.errand(lambda ledger: ledger.gateway_creates.commit(begun=[unheard]))
    pipeline.errand(
        lambda ledger: ledger.gateway_creates.note_callback_refused(ACCOUNT, "/v1/images/generations")
    )
    pipeline.engine.clock.advance(seconds=AFTER_MS / 1000)
    pipeline.tell(lost)


def a_create_without_answer_and_callback(pipeline: Pipeline) -> None:
    """Nothing but its time leads to the task: the sweep finds it, and its client is told."""
    client = pipeline.use_client()
    lost = GatewayCreate("r-1", ACCOUNT, FAMILY, None, client.url, {"prompt": "a fox"})
    pipeline.engine.ledger.gateway_creates.commit(begun=[lost])
    pipeline.task()
    pipeline.missed = 1
    pipeline.engine.clock.advance(seconds=MATCHED_MS / 1000)


def a_deadline_in_an_outage(pipeline: Pipeline) -> None:
    """The CDN is out until the task's deadline has passed: it is lost, and then archived all the same."""
    created_at = pipeline.sim.now_ms() - RETENTION_MS + 90_000
    pipeline.sim.fault("cdn", faults.Raw(500), times=3)
    pipeline.tell(pipeline.task(listed=False, created_at=created_at))


def a_clock_set_right(pipeline: Pipeline) -> None:
    """It was three hours ahead when the next try was put off."""
    pipeline.engine.clock.set_ahead(seconds=3 * 3600)
    pipeline.sim.fault("cdn", faults.Raw(500), times=1)
    pipeline.tell(pipeline.task(listed=False))
    pipeline.round()
    pipeline.engine.clock.set_ahead(seconds=-3 * 3600)


def an_api_key(pipeline: Pipeline) -> None:
    """Two callbacks that do not name a family, and a task that only the sweep of `/tasks` finds."""
    pipeline.use_api_key()
    pipeline.tell(pipeline.task(listed=False), pipeline.task(listed=False), family=None)
    pipeline.task(family="tasks/image")
    # The account's tasks are made in real time, and the sweep asks up to its own clock's now: a busy machine may have
    # let some seconds pass in between.
    pipeline.engine.clock.advance(seconds=60)


def a_file_named_later(pipeline: Pipeline) -> None:
    """A row of the list names a watermarked file, after the manifest is there without it."""
    task_id = pipeline.task(family=EXPAND, watermark=True, listed=False)
    pipeline.tell(task_id, family=EXPAND)

    def name_it(ledger: Ledger) -> None:
        if ledger.records.states(account=ACCOUNT, task_ids=[task_id]).get(task_id) is not State.ARCHIVED:
            raise LedgerUnavailable("its row does not show yet")
        pipeline.sim.hide_from_list(task_id, hidden=False)
        pipeline.engine.verify(task_id, family=EXPAND, listed=True)

    pipeline.errand(name_it)


def a_slow_amendment(pipeline: Pipeline) -> None:
    """So slow that its lease must be renewed before it is put."""
    a_file_named_later(pipeline)
    slow = faults.Call(lambda: pipeline.engine.clock.advance(seconds=20))
    pipeline.sim.fault("cdn", slow, times=2)  # the file of the manifest is slow too


def a_stop_at_an_amendment(pipeline: Pipeline) -> None:
    a_file_named_later(pipeline)
    pipeline.mishaps.plan.append(Mishap("fetcher.fetch", 2, happens=False, error=Stopped()))


def a_store_out_at_an_amendment(pipeline: Pipeline) -> None:
    a_file_named_later(pipeline)
    unreachable = StoreUnreachable("simulated")
    pipeline.mishaps.plan.append(Mishap("store.read", 1, happens=False, error=unreachable))


def a_bucket_gone_at_an_amendment(pipeline: Pipeline) -> None:
    a_file_named_later(pipeline)
    pipeline.mishaps.plan.append(Mishap("store.read", 1, happens=False, error=BucketMissing("simulated")))


def a_file_that_is_gone(pipeline: Pipeline) -> None:
    """Of two files one is gone, and the deadline is near: the task is lost, and the bucket says what is missing."""
    created_at = pipeline.sim.now_ms() - RETENTION_MS + 90_000
    task_id = pipeline.task(images=2, listed=False, created_at=created_at, ends=State.LOST)
    pipeline.incomplete.append(task_id)
    for occurrence in (1, 3):  # and again with a fresh URL
        gone = AssetGone("simulated")
        pipeline.mishaps.plan.append(Mishap("fetcher.fetch", occurrence, happens=False, error=gone))
    pipeline.tell(task_id)


def an_object_that_seems_missing(pipeline: Pipeline) -> None:
    """A listing lacks it, and HEAD: the store had a bad moment. The hours in between are written down at once."""
    task_id = pipeline.task(listed=False)
    pipeline.tell(task_id)
    store = pipeline.engine.store

    def let_it_seem_missing(_ledger: Ledger) -> None:
        if pipeline.states()[task_id] is not State.ARCHIVED:
            raise LedgerUnavailable("it is not in the bucket yet")
        key = pipeline.engine.folder(task_id) + "0.png"
        found = store.objects.pop(key, None)
        pipeline.write("UPDATE second_looks SET due_at = 0")
        if found is not None:
            hidden[key] = found
        doubts = pipeline.rows("SELECT state FROM missing_objects")
        if not doubts:
            raise LedgerUnavailable("nobody has looked yet")
        store.objects |= hidden
        pipeline.write("UPDATE missing_objects SET due_at = 0")

    hidden: dict[str, FakeObject] = {}
    pipeline.errand(let_it_seem_missing)


def an_object_that_is_missing(pipeline: Pipeline) -> None:
    """It is put back. The half hour in between is written down at once."""
    task_id = pipeline.task(listed=False)
    pipeline.tell(task_id)
    store = pipeline.engine.store

    def take_it_away(_ledger: Ledger) -> None:
        if pipeline.states()[task_id] is not State.ARCHIVED:
            raise LedgerUnavailable("it is not in the bucket yet")
        states = {state for (state,) in pipeline.rows("SELECT state FROM missing_objects")}
        if "restored" in states:
            return
        if not states:
            store.objects.pop(pipeline.engine.folder(task_id) + "0.png", None)
            pipeline.write("UPDATE second_looks SET due_at = 0")
        pipeline.write("UPDATE missing_objects SET due_at = 0 WHERE state = 'doubted'")
        raise LedgerUnavailable("it is not back yet")

    pipeline.errand(take_it_away)


def a_store_that_has_earned_trust(pipeline: Pipeline) -> None:
    """What it does with a second put of a manifest is not known yet."""
    location = pipeline.engine.store.location
    pipeline.write("INSERT INTO trust (place, objects) VALUES (?, 1000)", location)
    pipeline.tell(pipeline.task())


def an_application(pipeline: Pipeline) -> None:
    """It is told of a task once its file is in the bucket."""
    pipeline.use_application()
    pipeline.tell(pipeline.task(listed=False))


def an_application_that_fails_once(pipeline: Pipeline) -> None:
    application = pipeline.use_application()
    _answer_first(application, 500)
    pipeline.tell(pipeline.task(listed=False))


def an_application_that_is_down(pipeline: Pipeline) -> None:
    """Three tries in a row fail: it is held, and a probe ends that."""
    application = pipeline.use_application()
    _answer_first(application, *HELD_FAILURES * [503])
    pipeline.tell(pipeline.task(listed=False))


def an_application_that_wants_no_more(pipeline: Pipeline) -> None:
    application = pipeline.use_application()
    application.answer = answering(410)
    pipeline.tell(pipeline.task(listed=False))


def a_slow_bucket_before_a_forward(pipeline: Pipeline) -> None:
    """An operator has a forward sent again. The bucket has what it says, and takes so long that the lease is nearly
    over."""
    an_application(pipeline)
    store, read = pipeline.engine.store, pipeline.engine.store.read

    def read_slowly(key: str, *, bytes_max: int) -> bytes:
        store.read = read  # type: ignore[method-assign]  # as it was, after one slow answer
        pipeline.engine.clock.advance(seconds=40)
        return read(key, bytes_max=bytes_max)

    def send_again(ledger: Ledger) -> None:
        (task_id,) = pipeline.expected
        if not pipeline.rows("SELECT 1 FROM forwards WHERE state = 'delivered'"):
            raise LedgerUnavailable("it is not told yet")
        store.read = read_slowly  # type: ignore[method-assign]
        ledger.forward_orders.retry([task_id], account=ACCOUNT)

    pipeline.errand(send_again)


def _answer_first(application: Consumer, *statuses: int) -> None:
    answers = iter(statuses)

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        answering(next(answers, 200))(request)

    application.answer = answer


STORIES: Mapping[str, Callable[[Pipeline], None]] = {
    "ledger.forwards.claim": an_application,
    "ledger.forwards.content": an_application,
    "ledger.forwards.delivered": an_application,
    "sender.post": an_application,
    "ledger.forwards.retry": an_application_that_fails_once,
    "ledger.forwards.hold": an_application_that_is_down,
    "ledger.forwards.dead": an_application_that_wants_no_more,
    "ledger.forwards.give_back": a_slow_bucket_before_a_forward,
    "ledger.folder_work.amended": a_file_named_later,
    "ledger.folder_work.assets": a_file_named_later,
    "ledger.folder_work.renew": a_slow_amendment,
    "ledger.folder_work.give_back": a_stop_at_an_amendment,
    "ledger.folder_work.retry": a_store_out_at_an_amendment,
    "ledger.folder_work.hold": a_bucket_gone_at_an_amendment,
    "ledger.folder_work.finish": a_file_that_is_gone,
    "ledger.second_looks.claim": an_object_that_seems_missing,
    "ledger.second_looks.finish": an_object_that_seems_missing,
    "ledger.missing_objects.claim": an_object_that_seems_missing,
    "ledger.missing_objects.settle": an_object_that_seems_missing,
    "ledger.restores.claim": an_object_that_is_missing,
    "ledger.restores.answered": an_object_that_is_missing,
    "ledger.restores.settle": an_object_that_is_missing,
    "store.list_after": an_object_that_seems_missing,
    "store.put_again": a_store_that_has_earned_trust,
    "ledger.trust.note_second_put": a_store_that_has_earned_trust,
    "ledger.registrations.register": a_registration,
    **dict.fromkeys(
        (
            "ledger.gateway_creates.commit",
            "ledger.gateway_creates.abandon",
            "ledger.gateway_creates.note_callback_refused",
        ),
        a_create_by_the_gateway,
    ),
    "ledger.gateway_creates.match_by_time": a_create_without_answer_and_callback,
    "ledger.outcomes.retry": cdn_fails_once,
    "ledger.outcomes.hold": bucket_is_missing,
    "ledger.holds.release": bucket_is_missing,
    "ledger.holds.set": keys_are_refused,
    "ledger.holds.is_stopped": store_fails_once,
    "ledger.holds.set_by_look": store_is_down_at_start,
    "ledger.holds.release_by_look": store_is_down_at_start,
    "ledger.outcomes.bury": an_operator_digs_up,
    "ledger.registrations.retry": an_operator_digs_up,
    "ledger.outcomes.not_found": a_forged_id,
    "ledger.deadlines.prune": an_old_forged_id,
    "ledger.records.refresh_assets": signatures_have_ended,
    "ledger.outcomes.want_fresh": signatures_have_ended,
    "ledger.outcomes.refreshed": signatures_have_ended,
    "ledger.holds.release_host": cdn_is_down,
    "ledger.outcomes.give_back": a_stop_while_waiting,
    "ledger.claims.renew": a_slow_file,
    "ledger.deadlines.expire": a_deadline_in_an_outage,
    "ledger.deadlines.bring_forward": a_clock_set_right,
    "ledger.claims.batch": an_api_key,
    "ledger.registrations.enrol": an_api_key,
    "ledger.records.known_states": an_api_key,
    "client.collection": an_api_key,
    "store.read": a_lost_ledger,
    "store.head": a_lost_ledger,
}
"""Effect → the story that comes by it; of all others, it is `everyday`."""

PUTS: Mapping[Callable[[Pipeline], None], int] = {a_file_named_later: 4, a_file_that_is_gone: 2}
"""Story → which of its puts is the one that it is about: an amendment, an `incomplete.json`."""


# --- and what goes wrong in them --------------------------------------------------------------------------------------


def suffer(
    sim: KlingSimulator,
    folder: pathlib.Path,
    mishap: Mishap,
    *,
    by_hand: PostgresByHand | None = None,
    story: Callable[[Pipeline], None] | None = None,
) -> bool:
    """Tell the story of this effect, in which it goes wrong when it comes up for the `occurrence`-th time, and see it
    end as if nothing had. False when it never comes up so often.

    `story` is told in place of the effect's. Raises AssertionError when the end is another one. `folder` must be empty.
    `by_hand` is a PostgreSQL ledger in place of a file in it.
    """
    with forgetting(sim), Pipeline(sim, folder, by_hand=by_hand) as pipeline:
        (story or STORIES.get(mishap.label, everyday))(pipeline)
        before = pipeline.mishaps.counts[mishap.label]
        planned = dataclasses.replace(mishap, occurrence=before + mishap.occurrence)
        pipeline.run(planned)
        pipeline.assert_settled()
        return planned not in pipeline.mishaps.plan


@contextlib.contextmanager
def forgetting(sim: KlingSimulator) -> Iterator[None]:
    """One account for many stories, each of which sees its own tasks only."""
    sim.clear_faults()
    sim.complaints.clear()
    try:
        yield
    finally:
        for task_id in sim.task_ids():
            sim.hide_from_list(task_id)


def mishaps(label: str, *, occurrence: int) -> list[Mishap]:
    """The four ways in which an effect goes wrong; two, for one that changes nothing."""
    return [
        Mishap(label, occurrence, happens=happens, error=error)
        for happens in ([False] if label in READS else [False, True])
        for error in (failure_of(label), Died())
    ]
