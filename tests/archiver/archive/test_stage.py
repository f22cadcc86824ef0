"""The archive stage as a specification: what lies in the bucket and in which order it came there, in every failure."""

import hashlib
import json
import logging
import pathlib
from collections.abc import Callable, Iterator

import httpx2
import jsonschema
import pytest
import structlog

from archiver import log
from archiver.archive import manifest, transfer
from archiver.archive.manifest import ManifestUnreadable
from archiver.archive.stage import gravest
from archiver.failures import (
    ApiCredentialsRefused,
    AssetGone,
    BodyIncomplete,
    BucketForbidden,
    BucketMissing,
    Failure,
    FetchFailed,
    FetchRefused,
    FetchTimeout,
    ForeignObject,
    LeaseLost,
    LedgerUnavailable,
    NotMedia,
    ResultsMissing,
    SpoolFull,
    StoreMismatch,
    StoreUnreachable,
    TooLarge,
    advice,
)
from archiver.fetch.spool import Space
from archiver.kling.credentials import mint_token
from archiver.model import Callback, DiscoveredBy, Stage, Status, rfc3339
from archiver.store import ConditionalPut
from tests.harness.engine import ACCOUNT, FAMILY, Died, Engine
from tests.harness.fake_store import FakeStore
from tests.harness.ledgers import claim_archive
from tests.harness.repository import DEPLOY
from tests.media_corpus import table as media_corpus
from tests.simulator import KlingSimulator, Switches, faults

SCHEMA = json.loads((DEPLOY / "manifest.schema.json").read_text())
HOUR = 3600.0
DAY = 86_400.0


@pytest.fixture(scope="module")
def account() -> Iterator[KlingSimulator]:
    with KlingSimulator(switches=Switches(fresh_urls=False)) as simulator:
        yield simulator


@pytest.fixture
def sim(account: KlingSimulator) -> KlingSimulator:
    """One account for all tests, each of which has tasks of its own."""
    account.clear_faults()
    account.complaints.clear()
    return account


@pytest.fixture
def engine(sim: KlingSimulator, tmp_path: pathlib.Path) -> Iterator[Engine]:
    with Engine(sim, tmp_path) as running:
        yield running


@pytest.fixture
def logged(tmp_path: pathlib.Path) -> Iterator[Callable[[], list[str]]]:
    """The events that were logged at `error` or above, in order; an undeclared event fails."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with (tmp_path / "log").open("w+") as stream:
        log.configure(format="json", level="error", stream=stream, strict=True)
        yield lambda: [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    logging.captureWarnings(False)
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


# --- what lies in the bucket --------------------------------------------------------------------------------


def test_images_lie_under_family_day_and_id_and_the_manifest_beside_them(engine: Engine) -> None:
    task_id = engine.succeeded(images=2, watermark=True)

    assert engine.attempt() is None
    engine.assert_archived(task_id)
    assert engine.names(task_id) == [
        "0.png",
        "0.watermark.png",
        "1.png",
        "1.watermark.png",
        "manifest.json",
    ]


def test_the_manifest_says_exactly_what_the_contract_names(engine: Engine) -> None:
    task_id = engine.succeeded(images=1, watermark=True, external_task_id="my order/7")
    engine.clock.advance(seconds=5)
    assert engine.attempt() is None

    sim = engine.sim
    answer = httpx2.get(
        f"{sim.base_url}/v1/{FAMILY}/{task_id}",
        headers={
            "Authorization": f"Bearer {mint_token(sim.access_key, sim.secret_key, now=sim.now_ms() // 1000)}"
        },
    ).json()["data"]
    task, folder = sim.task(task_id), engine.folder(task_id)
    found = engine.manifest(task_id)

    assert found == {
        "schema_version": 1,
        "account": ACCOUNT,
        "family": FAMILY,
        "task_id": task_id,
        "external_task_id": "my order/7",
        "status": "succeed",
        "created_at": rfc3339(task.created_at),
        "updated_at": rfc3339(task.updated_at),
        "archived_at": rfc3339(engine.clock.now()),
        "expires_at": rfc3339(task.created_at + 30 * 86_400_000),
        "discovered_by": "callback",
        "assets": [
            {
                "name": f"{stem}.png",
                "key": f"{folder}{stem}.png",
                "index": 0,
                "role": "image",
                "watermarked": watermarked,
                "bytes": len(sim.expected_bytes(task_id, stem)),
                "sha256": hashlib.sha256(sim.expected_bytes(task_id, stem)).hexdigest(),
                "content_type": "image/png",
                "width": 24,
                "height": 24,
                "source_url": sim.url(task_id, stem),
                "suspect": None,
                "stem": stem,
            }
            for stem, watermarked in (("0", False), ("0.watermark", True))
        ],
        "request": None,
        "task": answer,
    }
    jsonschema.validate(found, SCHEMA, format_checker=jsonschema.FormatChecker())


def test_objects_carry_their_type_and_who_they_belong_to(engine: Engine) -> None:
    task_id = engine.succeeded()
    assert engine.attempt() is None

    found = engine.store.head(engine.folder(task_id) + "0.png")
    assert found is not None
    assert (found.content_type, found.task_id, found.family) == ("image/png", task_id, FAMILY)
    assert found.sha256 == hashlib.sha256(engine.sim.expected_bytes(task_id, "0")).hexdigest()


def test_a_registration_is_told_in_the_manifest_with_its_request(engine: Engine) -> None:
    task_id = engine.sim.create_task()
    engine.sim.succeed(task_id)
    engine.ledger.registrations.register(
        task_id, account=ACCOUNT, family=FAMILY, request={"prompt": "a lamp"}
    )
    engine.verify(task_id)
    assert engine.attempt() is None

    found = engine.manifest(task_id)
    assert (found["discovered_by"], found["request"]) == ("registration", {"prompt": "a lamp"})


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("audio/text-to-audio", ["audio-0.mp3", "audio-0.wav"]),
        ("videos/text2video", ["video-0.mp4", "video-0.watermark.mp4"]),
    ],
)
def test_every_kind_of_result_is_archived_under_its_name(
    engine: Engine, family: str, names: list[str]
) -> None:
    task_id = engine.succeeded(family=family, watermark=True)

    assert engine.attempt() is None
    assert engine.sim.expected_names(task_id) == names
    engine.assert_archived(task_id, family)


def test_an_asset_that_the_list_names_while_the_task_is_archived_is_in_the_manifest(engine: Engine) -> None:
    family = "images/editing/expand"  # only its list rows carry the watermark
    task_id = engine.succeeded(family=family, watermark=True)
    lease = engine.claim()
    engine.verify(task_id, family=family, by=DiscoveredBy.SWEEP, listed=True)

    assert engine.attempt(lease) is None
    engine.assert_archived(task_id, family)


@pytest.mark.parametrize("label", ["put 0.png", "list #2"], ids=["while bringing", "after bringing"])
def test_an_asset_that_is_named_at_the_last_moment_is_still_brought_before_the_manifest(
    engine: Engine, label: str
) -> None:
    family = "images/editing/expand"
    task_id = engine.succeeded(family=family, watermark=True)
    at_label(engine, label, lambda: engine.verify(task_id, family=family, by=DiscoveredBy.SWEEP, listed=True))

    assert engine.attempt() is None
    engine.assert_archived(task_id, family)


def test_an_asset_that_is_named_at_the_last_moment_and_cannot_be_had_keeps_what_is_stored(
    engine: Engine, sim: KlingSimulator
) -> None:
    family = "images/editing/expand"
    task_id = engine.succeeded(family=family, watermark=True)

    def name_and_fail() -> None:
        engine.verify(task_id, family=family, by=DiscoveredBy.SWEEP, listed=True)
        sim.fault("cdn", faults.Raw(500), times=1)

    at_label(engine, "list #2", name_and_fail)

    assert isinstance(engine.attempt(), FetchFailed)
    assert [asset["stored"] for asset in engine.show(task_id)["assets"]] == [True, False]
    assert engine.attempt_again() is None
    engine.assert_archived(task_id, family)


# --- every effect, failed and failed but happened -------------------------------------------------------------

ERRORS: dict[str, type[Failure]] = {
    "list": StoreUnreachable,
    "list #2": StoreUnreachable,
    "fetch": FetchFailed,
    "fetch #2": FetchTimeout,
    "put 0.png": StoreUnreachable,
    "put 0.watermark.png": StoreUnreachable,
    "put manifest.json": StoreUnreachable,
    "head manifest.json": StoreUnreachable,
    "assets": LedgerUnavailable,
    "archived": LedgerUnavailable,
}
"""Every effect of the archiving of one task, and how it fails."""


def test_the_table_of_effects_is_whole(engine: Engine) -> None:
    engine.succeeded(watermark=True)
    engine.attempt()

    assert set(engine.effects.seen) == ERRORS.keys()


def test_the_order_of_effects_is_the_guarantee(engine: Engine) -> None:
    engine.succeeded(watermark=True)
    engine.attempt()

    assert engine.effects.seen[0] == "list"
    assert engine.effects.seen[-5:] == [
        "list #2",
        "assets",
        "put manifest.json",
        "head manifest.json",
        "archived",
    ]


@pytest.mark.parametrize("store", [ConditionalPut.RESPECTED, ConditionalPut.IGNORED])
@pytest.mark.parametrize("happens", [False, True], ids=["failed", "failed-but-happened"])
@pytest.mark.parametrize("effect", ERRORS)
def test_an_effect_that_fails_is_made_good_by_the_next_attempt(
    sim: KlingSimulator, tmp_path: pathlib.Path, effect: str, happens: bool, store: ConditionalPut
) -> None:
    with Engine(sim, tmp_path, store=FakeStore(conditional=store)) as engine:
        task_id = engine.succeeded(watermark=True)
        engine.effects.plan[effect] = (happens, ERRORS[effect]("simulated"))

        failed = engine.attempt()
        # A completion that happened ends the task, whatever its answer was.
        done = effect == "archived" and happens
        while not done and engine.show(task_id)["state"] != "archived":
            assert isinstance(failed, ERRORS[effect])
            failed = engine.attempt_again()

        engine.assert_archived(task_id)


@pytest.mark.parametrize("happens", [False, True], ids=["died-before", "died-after"])
@pytest.mark.parametrize("effect", ERRORS)
def test_a_process_that_dies_at_an_effect_leaves_what_the_next_one_can_finish(
    engine: Engine, effect: str, happens: bool
) -> None:
    task_id = engine.succeeded(watermark=True)
    engine.effects.plan[effect] = (happens, Died())
    with pytest.raises(Died):
        engine.attempt()
    engine.restart()

    if engine.show(task_id)["state"] != "archived":
        assert engine.attempt() is None
    engine.assert_archived(task_id)


def test_a_hold_takes_its_attempt_back_and_the_next_one_looks_before_it_puts_all_the_same(
    sim: KlingSimulator, tmp_path: pathlib.Path
) -> None:
    with Engine(sim, tmp_path, store=FakeStore(conditional=ConditionalPut.IGNORED)) as engine:
        task_id = engine.succeeded(watermark=True)
        engine.effects.plan["put 0.watermark.png"] = (True, BucketMissing("simulated"))
        engine.effects.plan["put 0.png"] = (True, BucketMissing("simulated"))
        assert isinstance(engine.attempt(), BucketMissing)
        before = dict(engine.store.objects)
        assert engine.show(task_id)["attempts"] == 0

        assert engine.attempt_again() is None
        engine.assert_archived(task_id)
        assert {key: engine.store.objects[key] is before[key] for key in before} == dict.fromkeys(
            before, True
        )


# --- adoption ---------------------------------------------------------------------------------------------------


def archived_then_forgotten(engine: Engine, family: str = FAMILY, **task: object) -> str:
    """A task that is whole in the bucket and new to the ledger."""
    task_id = engine.succeeded(family=family, **task)
    assert engine.attempt() is None
    engine.restart(ledger_lost=True)
    engine.clock.advance(seconds=HOUR)
    engine.verify(task_id, family=family, by=DiscoveredBy.SWEEP)
    return task_id


@pytest.mark.parametrize("family", [FAMILY, "audio/text-to-audio"])
def test_a_lost_ledger_is_filled_from_manifests_without_a_single_fetch(
    engine: Engine, sim: KlingSimulator, family: str
) -> None:
    task_id = archived_then_forgotten(engine, family)
    fetched, before = sim.requests["cdn"], engine.manifest(task_id, family)

    assert engine.attempt() is None
    engine.assert_archived(task_id, family)
    assert sim.requests["cdn"] == fetched
    assert engine.manifest(task_id, family) == before


@pytest.mark.parametrize(("family", "name"), [(FAMILY, "0.png"), ("audio/text-to-audio", "audio-0.wav")])
def test_a_missing_object_that_its_manifest_names_is_fetched_again(
    engine: Engine, family: str, name: str
) -> None:
    task_id = archived_then_forgotten(engine, family)
    engine.store.vanish(engine.folder(task_id, family) + name)

    assert engine.attempt() is None
    engine.assert_archived(task_id, family)


def test_an_object_that_only_the_listing_misses_is_not_fetched_again(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = archived_then_forgotten(engine)
    fetched = sim.requests["cdn"]
    engine.store.unlisted.add(engine.folder(task_id) + "0.png")

    assert engine.attempt() is None
    assert sim.requests["cdn"] == fetched


def test_a_missing_object_whose_url_is_dead_is_fetched_from_a_fresh_one(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = archived_then_forgotten(engine)
    engine.store.vanish(engine.folder(task_id) + "0.png")
    sim.fault("cdn", faults.Html(404), times=1)

    assert isinstance(engine.attempt(), AssetGone)
    engine.clock.advance(seconds=60)
    assert engine.refresh()
    assert engine.attempt() is None
    engine.assert_archived(task_id)


def test_other_bytes_are_not_put_in_the_place_of_what_the_manifest_names(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = archived_then_forgotten(engine)
    engine.store.vanish(engine.folder(task_id) + "0.png")
    other = sim.expected_bytes(engine.sim.create_task(), "0")
    sim.fault("cdn", faults.Raw(200, other), times=1)

    assert isinstance(engine.attempt(), StoreMismatch)
    assert engine.names(task_id) == ["manifest.json"]
    assert engine.attempt_again() is None
    engine.assert_archived(task_id)


def test_a_suspect_object_that_its_manifest_names_is_brought_back_at_once(
    engine: Engine, sim: KlingSimulator
) -> None:
    half = faults.Truncate(with_length=True)
    sim.fault("cdn", half)
    task_id = engine.succeeded()
    engine.attempt()
    engine.clock.advance(seconds=HOUR)
    assert engine.attempt() is None
    engine.restart(ledger_lost=True)
    engine.verify(task_id)
    engine.store.vanish(engine.folder(task_id) + "0.png")

    assert engine.attempt() is None
    assert engine.names(task_id) == ["0.png", "manifest.json"]


def test_a_manifest_that_lists_show_late_is_adopted_and_not_replaced(engine: Engine) -> None:
    task_id = archived_then_forgotten(engine)
    before = engine.manifest(task_id)
    engine.store.unlisted.add(engine.folder(task_id) + "manifest.json")

    assert engine.attempt() is None
    assert engine.manifest(task_id) == before
    assert engine.show(task_id)["state"] == "archived"


@pytest.mark.parametrize(
    "change",
    [{"task_id": "another"}, {"family": "images/omni-image"}, {"account": "somebody-else"}, {"assets": []}],
    ids=lambda change: next(iter(change)),
)
def test_a_manifest_of_something_else_buries_the_task_loudly(
    engine: Engine, logged: Callable[[], list[str]], change: dict[str, str]
) -> None:
    task_id = archived_then_forgotten(engine)
    key = engine.folder(task_id) + "manifest.json"
    foreign = json.dumps(engine.manifest(task_id) | change).encode()
    engine.store.place(key, foreign)

    assert isinstance(engine.attempt(), ForeignObject)
    assert engine.show(task_id)["state"] == "buried"
    assert engine.store.content(key) == foreign
    assert logged() == ["task.buried"]


def test_a_manifest_that_names_an_object_outside_of_its_folder_buries_the_task_loudly(engine: Engine) -> None:
    task_id = archived_then_forgotten(engine)
    key = engine.folder(task_id) + "manifest.json"
    found = engine.manifest(task_id)
    engine.store.place("elsewhere/0.png", b"12345")
    found["assets"][0] |= {"key": "elsewhere/0.png", "bytes": 5}
    engine.store.place(key, foreign := json.dumps(found).encode())

    assert isinstance(engine.attempt(), ForeignObject)
    assert engine.show(task_id)["state"] == "buried"
    assert engine.store.content(key) == foreign


def test_a_manifest_with_a_former_name_of_the_account_is_adopted(engine: Engine) -> None:
    task_id = archived_then_forgotten(engine)
    found = engine.manifest(task_id) | {"account": "its-old-name"}
    engine.store.place(engine.folder(task_id) + "manifest.json", json.dumps(found).encode())
    engine.former_names = ("its-old-name",)
    engine.restart()

    assert engine.attempt() is None
    assert engine.show(task_id)["state"] == "archived"


def test_a_manifest_of_another_account_names_the_setting_for_former_names(engine: Engine) -> None:
    task_id = archived_then_forgotten(engine)
    content = {**engine.manifest(task_id), "account": "its-old-name"}
    key = engine.folder(task_id) + "manifest.json"
    engine.store.place(key, json.dumps(content).encode(), task_id=task_id)

    engine.attempt()
    assert "KLING_ACCOUNT_FORMER_NAMES" in advice.what_to_do(engine.show(task_id)["reason"])


def test_a_missing_object_that_upstream_no_longer_names_is_told_with_what_to_do(engine: Engine) -> None:
    task_id = archived_then_forgotten(engine)
    content = engine.manifest(task_id)
    key = engine.folder(task_id)
    content["assets"].append({**content["assets"][0], "name": "7.png", "key": key + "7.png"})
    engine.store.place(key + "manifest.json", json.dumps(content).encode(), task_id=task_id)

    engine.attempt()
    assert "put the object back" in advice.what_to_do(engine.show(task_id)["reason"])


def test_a_manifest_that_is_none_is_left_for_an_operator(engine: Engine) -> None:
    task_id = archived_then_forgotten(engine)
    key = engine.folder(task_id) + "manifest.json"
    engine.store.place(key, b"{}")

    assert isinstance(engine.attempt(), ManifestUnreadable)
    assert engine.store.content(key) == b"{}"
    assert engine.show(task_id)["state"] == "succeeded"


def test_an_object_of_another_size_than_its_manifest_says_is_foreign(engine: Engine) -> None:
    task_id = archived_then_forgotten(engine)
    key = engine.folder(task_id) + "0.png"
    engine.store.place(key, b"shorter")

    assert isinstance(engine.attempt(), ForeignObject)
    assert engine.store.content(key) == b"shorter"


def test_other_bytes_of_an_earlier_attempt_are_adopted_as_they_lie_there(engine: Engine) -> None:
    task_id = engine.succeeded()
    key = engine.folder(task_id) + "0.png"
    earlier = engine.sim.expected_bytes(engine.sim.create_task(), "0") + b"trailing"
    engine.store.place(key, earlier, task_id=task_id)

    assert engine.attempt() is None
    (asset,) = engine.manifest(task_id)["assets"]
    assert engine.store.content(key) == earlier
    assert (asset["bytes"], asset["sha256"]) == (len(earlier), hashlib.sha256(earlier).hexdigest())
    assert (asset["width"], asset["height"], asset["suspect"]) == (24, 24, None)
    engine.assert_clean()


@pytest.mark.parametrize("read_back_bytes_max", [transfer.READ_BACK_BYTES_MAX, 10])
def test_a_cut_file_of_an_earlier_attempt_is_marked_although_the_whole_one_comes_now(
    engine: Engine, sim: KlingSimulator, monkeypatch: pytest.MonkeyPatch, read_back_bytes_max: int
) -> None:
    monkeypatch.setattr(transfer, "READ_BACK_BYTES_MAX", read_back_bytes_max)
    task_id = engine.succeeded()
    cut = sim.expected_bytes(task_id, "0")[:-40]
    sim.fault("cdn", faults.Raw(200, cut))
    assert isinstance(engine.attempt(), BodyIncomplete)
    engine.clock.advance(seconds=HOUR + 60)
    engine.effects.plan["put 0.png"] = (True, LeaseLost("taken over between the put and the settling"))
    assert isinstance(engine.attempt(), LeaseLost)
    sim.clear_faults()

    engine.clock.advance(seconds=1200)
    assert engine.attempt() is None
    (asset,) = engine.manifest(task_id)["assets"]
    assert engine.store.content(asset["key"]) == cut
    assert asset["suspect"] == "incomplete_upstream"


def test_a_whole_file_of_an_earlier_attempt_is_not_marked_although_a_cut_one_comes_now(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = engine.succeeded()
    whole = sim.expected_bytes(task_id, "0")
    sim.fault("cdn", faults.Raw(200, whole[:-40]))
    assert isinstance(engine.attempt(), BodyIncomplete)
    engine.store.place(engine.folder(task_id) + "0.png", whole, task_id=task_id)

    engine.clock.advance(seconds=HOUR + 60)
    assert engine.attempt() is None
    (asset,) = engine.manifest(task_id)["assets"]
    assert (asset["bytes"], asset["suspect"]) == (len(whole), None)


def test_a_foreign_object_under_our_key_buries_the_task_loudly_and_stays(
    engine: Engine, logged: Callable[[], list[str]]
) -> None:
    task_id = engine.succeeded(images=2)
    key = engine.folder(task_id) + "1.png"
    engine.store.place(key, b"somebody else's")

    assert isinstance(engine.attempt(), ForeignObject)
    assert engine.store.content(key) == b"somebody else's"
    assert engine.names(task_id) == ["0.png", "1.png"]
    assert engine.show(task_id)["state"] == "buried"
    assert [asset["stored"] for asset in engine.show(task_id)["assets"]] == [True, False]
    assert logged() == ["task.buried"]


# --- the look before the manifest -----------------------------------------------------------------------------


def at_label(engine: Engine, label: str, act: Callable[[], None]) -> None:
    """Do something to the store right before the effect of this label."""
    hook = engine.effects

    def acting(operation: str, key: str) -> tuple[bool, BaseException | None]:
        answer = hook(operation, key)
        if hook.seen[-1] == label:
            act()
        return answer

    engine.store.hook = acting


@pytest.mark.parametrize("content", [None, b"shorter"])
def test_no_manifest_is_put_over_an_object_that_is_gone_or_of_another_size(
    engine: Engine, content: bytes | None
) -> None:
    task_id = engine.succeeded(watermark=True)
    key = engine.folder(task_id) + "0.png"

    def spoil() -> None:
        if content is None:
            engine.store.vanish(key)
        else:
            engine.store.place(key, content)

    at_label(engine, "list #2", spoil)

    assert isinstance(engine.attempt(), StoreMismatch)
    assert "manifest.json" not in engine.names(task_id)
    assert engine.show(task_id)["state"] == "succeeded"


def test_a_manifest_that_the_store_took_and_did_not_keep_is_put_again(engine: Engine) -> None:
    task_id = engine.succeeded()
    forgotten: list[str] = []

    def forget_once(operation: str, key: str) -> tuple[bool, BaseException | None]:
        if operation == "head" and key.endswith("manifest.json") and not forgotten:
            engine.store.vanish(key)
            forgotten.append(key)
        return engine.effects(operation, key)

    engine.store.hook = forget_once

    assert isinstance(engine.attempt(), StoreMismatch)
    assert engine.attempt_again() is None
    engine.assert_archived(task_id)


def test_an_object_that_vanished_is_fetched_and_put_again(engine: Engine) -> None:
    task_id = engine.succeeded(watermark=True)
    key = engine.folder(task_id) + "0.png"
    at_label(engine, "list #2", lambda: engine.store.vanish(key))
    engine.attempt()

    assert engine.attempt_again() is None
    engine.assert_archived(task_id)


def test_a_listing_that_lags_behind_is_no_reason_to_wait(engine: Engine) -> None:
    task_id = engine.succeeded(watermark=True)
    engine.store.unlisted.add(engine.folder(task_id) + "0.png")

    assert engine.attempt() is None
    engine.assert_archived(task_id)


@pytest.mark.parametrize("happened", [True, False])
def test_nothing_is_overwritten_after_a_hold_where_lists_lag_and_the_store_knows_no_condition(
    sim: KlingSimulator, tmp_path: pathlib.Path, happened: bool
) -> None:
    with Engine(sim, tmp_path, store=FakeStore(conditional=ConditionalPut.IGNORED)) as engine:
        engine.succeeded(images=2)
        engine.effects.plan["put 1.png"] = (happened, BucketForbidden("the answer of a broken gateway"))
        assert isinstance(engine.attempt(), BucketForbidden)
        engine.store.unlisted.update(engine.store.all_keys())
        sim.fault("cdn", faults.Raw(200, sim.expected_bytes(engine.sim.create_task(), "0")))
        engine.clock.advance(seconds=60)

        lease = engine.claim()
        assert lease.attempt == 1
        engine.attempt(lease)
        assert engine.store.complaints == []


def test_what_lists_do_not_show_yet_is_not_fetched_again(engine: Engine, sim: KlingSimulator) -> None:
    task_id = engine.succeeded(images=2)
    engine.effects.plan["put 1.png"] = (False, StoreUnreachable("simulated"))
    engine.attempt()
    engine.store.unlisted.update(engine.store.all_keys())
    fetched = sim.requests["cdn"]

    assert engine.attempt_again() is None
    assert sim.requests["cdn"] == fetched + 1
    engine.assert_archived(task_id)


def test_what_is_stored_already_is_not_fetched_again(engine: Engine, sim: KlingSimulator) -> None:
    task_id = engine.succeeded(images=3)
    engine.effects.plan["put 1.png"] = (False, StoreUnreachable("simulated"))
    engine.attempt()
    fetched = sim.requests["cdn"]

    assert engine.attempt_again() is None
    assert sim.requests["cdn"] == fetched + 1
    engine.assert_archived(task_id)


# --- upstream no longer has it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_dead_url_is_exchanged_for_a_fresh_one_by_one_question_of_verification(
    engine: Engine, sim: KlingSimulator, status: int
) -> None:
    task_id = engine.succeeded(images=2)
    sim.fault("cdn", faults.Raw(status), times=2)
    asked = sim.requests["query"]

    assert isinstance(engine.attempt(), AssetGone | FetchRefused)
    assert (engine.due(), sim.requests["query"]) == (0, asked)
    assert engine.refresh()
    assert sim.requests["query"] == asked + 1
    assert engine.attempt() is None
    engine.assert_archived(task_id)


def test_a_revoked_url_is_followed_by_the_fresh_one_of_the_api(engine: Engine, sim: KlingSimulator) -> None:
    task_id = engine.succeeded(images=2)
    sim.revoke_urls(task_id)

    engine.attempt()
    assert engine.refresh()
    assert engine.attempt() is None
    engine.assert_archived(task_id)
    assert [asset["source_url"] for asset in engine.manifest(task_id)["assets"]] == [
        sim.url(task_id, "0"),
        sim.url(task_id, "1"),
    ]


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_gone_with_a_fresh_url_too_buries_the_task_its_other_assets_saved(
    engine: Engine, sim: KlingSimulator, status: int, logged: Callable[[], list[str]]
) -> None:
    task_id = engine.succeeded(images=3)
    path = sim.url(task_id, "1").partition("?")[0].removeprefix(sim.origin)
    sim.fault("cdn", faults.Raw(status), match=path)
    asked = sim.requests["query"]

    assert isinstance(engine.attempt(), AssetGone)
    assert engine.refresh()
    assert isinstance(engine.attempt(), AssetGone)
    assert sim.requests["query"] == asked + 1
    assert engine.names(task_id) == ["0.png", "2.png"]
    shown = engine.show(task_id)
    assert (shown["state"], shown["reason"]) == ("buried", "asset_gone")
    assert [asset["stored"] for asset in shown["assets"]] == [True, False, True]
    assert [asset["reason"] for asset in shown["assets"]] == [None, "asset_gone", None]
    assert logged() == ["task.buried"]
    assert engine.failures() == {"asset_gone": 2.0}


@pytest.mark.parametrize("status", [400, 401, 403, 451])
def test_a_refusal_ends_no_task_it_is_tried_until_the_deadline_and_as_a_lost_one_after_it(
    engine: Engine, sim: KlingSimulator, status: int
) -> None:
    task_id = engine.succeeded()
    sim.fault("cdn", faults.Raw(status))
    engine.attempt()
    engine.refresh()
    for _ in range(20):
        assert isinstance(engine.attempt_again(), FetchRefused)
    assert engine.show(task_id)["state"] == "succeeded"

    engine.clock.advance(seconds=30 * DAY)
    engine.ledger.deadlines.expire()
    for _ in range(5):
        assert isinstance(engine.attempt(), FetchRefused)
        engine.refresh()
        engine.clock.advance(seconds=3601)
    assert engine.show(task_id)["state"] == "lost"

    sim.clear_faults()
    assert engine.attempt() is None
    engine.assert_archived(task_id)


def test_a_task_is_asked_about_once_a_day_however_often_its_file_is_refused(
    engine: Engine, sim: KlingSimulator
) -> None:
    engine.succeeded()
    sim.fault("cdn", faults.Raw(403))
    asked = sim.requests["query"]
    for _ in range(3 * 24 * 4):
        if engine.due():
            engine.attempt()
        engine.refresh()
        engine.clock.advance(seconds=15 * 60)

    assert sim.requests["query"] - asked == 3


def test_a_buried_task_that_can_be_had_again_is_archived_by_its_own_retry(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = engine.succeeded()
    sim.fault("cdn", faults.Raw(404), times=2)
    engine.attempt()
    engine.refresh()
    assert isinstance(engine.attempt(), AssetGone)
    assert engine.show(task_id)["state"] == "buried"
    engine.clock.advance(seconds=DAY + 1)
    engine.verify(task_id)

    assert engine.attempt() is None
    engine.assert_archived(task_id)


@pytest.mark.parametrize(
    "fault",
    [
        faults.server_error(),
        faults.Html(),
        faults.ErrorCode(401, 1002),
        faults.ErrorCode(429, 1101),
        faults.ErrorCode(429, 1302),
    ],
    ids=["5000", "html", "1002", "1101", "1302"],
)
def test_an_api_that_gives_no_fresh_url_delays_this_task_only_and_costs_nothing_that_is_stored(
    engine: Engine, sim: KlingSimulator, fault: faults.Fault
) -> None:
    task_id = engine.succeeded(images=2)
    path = sim.url(task_id, "1").partition("?")[0].removeprefix(sim.origin)
    sim.fault("cdn", faults.Raw(403), match=path, times=1)
    sim.fault("query", fault, times=1)

    engine.attempt()
    assert engine.refresh()
    assert [asset["stored"] for asset in engine.show(task_id)["assets"]] == [True, False]
    engine.clock.advance(seconds=3601)
    assert engine.attempt() is None
    engine.assert_archived(task_id)


def test_while_questions_are_held_the_old_url_is_tried_again_after_an_hour(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = engine.succeeded()
    sim.fault("cdn", faults.Raw(403), times=1)
    engine.attempt()
    engine.ledger.holds.set(ApiCredentialsRefused("simulated"), account=ACCOUNT, stage=Stage.VERIFY)
    asked = sim.requests["query"]

    assert not engine.refresh()
    assert engine.due() == 0
    engine.clock.advance(seconds=3601)
    assert engine.attempt() is None
    assert sim.requests["query"] == asked
    engine.assert_archived(task_id)


def test_the_files_of_a_task_whose_external_id_is_ours_are_not_ours(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either id can fill the path of a question, so once ours is purged the other one may answer."""
    ours, other = engine.succeeded(), engine.succeeded()
    path = engine.sim.url(ours, "0").partition("?")[0].removeprefix(engine.sim.origin)
    engine.sim.fault("cdn", faults.Raw(404), match=path)
    query = engine.client.query
    monkeypatch.setattr(engine.client, "query", lambda family, _id, **named: query(family, other, **named))

    for _ in range(2):
        engine.attempt()
    engine.refresh()
    engine.clock.advance(seconds=60)
    engine.attempt()

    assert engine.show(ours)["state"] == "buried"
    assert engine.names(ours) == []
    engine.assert_archived(other)


def test_a_dead_url_of_a_task_that_the_api_no_longer_knows_is_a_burial(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = engine.succeeded()
    sim.fault("cdn", faults.Raw(404))
    sim.fault("query", faults.ErrorCode(400, 1201, "task not found"))
    engine.attempt()
    engine.refresh()
    engine.clock.advance(seconds=60)

    assert isinstance(engine.attempt(), AssetGone)
    assert engine.show(task_id)["state"] == "buried"


def test_a_success_without_results_is_buried_and_puts_nothing(engine: Engine, sim: KlingSimulator) -> None:
    task_id = sim.create_task(indexes=[])
    sim.succeed(task_id)
    engine.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, FAMILY)])
    engine.verify(task_id)

    shown = engine.show(task_id)
    assert (shown["state"], shown["reason"]) == ("buried", ResultsMissing.reason)
    assert engine.store.objects == {}


# --- what upstream sends -----------------------------------------------------------------------------------------


def test_a_page_instead_of_an_image_is_not_stored_and_asked_for_again(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = engine.succeeded(images=2)
    sim.fault("cdn", faults.Html(), times=1)

    assert isinstance(engine.attempt(), NotMedia)
    assert len(engine.names(task_id)) == 1
    engine.assert_clean()
    assert engine.attempt_again() is None
    engine.assert_archived(task_id)


def test_an_image_over_the_limit_is_buried_and_leaves_no_byte_in_the_spool(engine: Engine) -> None:
    task_id = engine.succeeded(size=(1024, 512))  # 1.5 MiB of noise, where the engine takes 1 MiB

    assert isinstance(engine.attempt(), TooLarge)
    assert engine.show(task_id)["state"] == "buried"
    engine.assert_clean()


def test_a_video_has_the_limit_of_videos(engine: Engine) -> None:
    family = "videos/text2video"
    task_id = engine.succeeded(family=family, size=(1024, 512))

    assert engine.attempt() is None
    engine.assert_archived(task_id, family)


def test_a_spool_without_room_holds_the_stage_and_costs_no_attempt(
    engine: Engine, logged: Callable[[], list[str]]
) -> None:
    task_id = engine.succeeded()
    engine.space = Space(free=1000, total=10**9)

    assert isinstance(engine.attempt(), SpoolFull)
    (hold,) = engine.ledger.views.status().holds
    assert (hold.stage, hold.reason, hold.host) == ("archive", "spool_full", None)
    assert (engine.show(task_id)["state"], engine.show(task_id)["attempts"]) == ("succeeded", 0)
    assert logged() == ["hold.set"]
    engine.space = None
    assert engine.attempt_again() is None
    engine.assert_archived(task_id)


def test_a_large_file_without_room_in_the_spool_is_tried_again_and_holds_no_other(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = engine.succeeded()
    reserve = engine.spool.reserve
    engine.space = Space(free=600_000_000, total=10**10)
    monkeypatch.setattr(engine.spool, "reserve", lambda _bytes: reserve(2 * 10**9))

    assert isinstance(engine.attempt(), SpoolFull)
    assert engine.ledger.views.status().holds == ()
    assert (engine.show(task_id)["state"], engine.show(task_id)["attempts"]) == ("succeeded", 1)


@pytest.mark.parametrize("fault", [faults.Cut(), faults.Cut(kept=0), faults.Cut(reset=True)])
def test_a_fetch_that_is_cut_is_tried_again_and_nothing_half_is_stored(
    engine: Engine, sim: KlingSimulator, fault: faults.Fault
) -> None:
    task_id = engine.succeeded()
    sim.fault("cdn", fault, times=1)

    assert isinstance(engine.attempt(), BodyIncomplete | FetchFailed)
    assert engine.names(task_id) == []
    assert engine.attempt_again() is None
    engine.assert_archived(task_id)


def test_a_file_that_is_incomplete_twice_an_hour_apart_is_stored_and_marked(
    engine: Engine, sim: KlingSimulator
) -> None:
    sim.fault("cdn", faults.Truncate(with_length=True))
    task_id = engine.succeeded()
    whole = sim.expected_bytes(task_id, "0")
    assert isinstance(engine.attempt(), BodyIncomplete)
    engine.clock.advance(seconds=HOUR - 1)
    assert isinstance(engine.attempt(), BodyIncomplete)
    assert engine.names(task_id) == []
    engine.clock.advance(seconds=15 * 60)

    assert engine.attempt() is None
    (asset,) = engine.manifest(task_id)["assets"]
    assert asset["suspect"] == "incomplete_upstream"
    assert engine.store.content(asset["key"]) == whole[: len(whole) // 2]
    engine.assert_clean()


BROKEN = sorted((media_corpus.FOLDER / "broken").iterdir())


@pytest.mark.parametrize("file", BROKEN, ids=lambda file: file.name)
def test_a_file_that_is_no_picture_film_or_sound_is_fetched_again(
    engine: Engine, sim: KlingSimulator, file: pathlib.Path
) -> None:
    task_id = engine.succeeded()
    sim.fault("cdn", faults.Raw(200, file.read_bytes()), times=1)

    assert isinstance(engine.attempt(), BodyIncomplete)
    assert engine.names(task_id) == []
    assert engine.attempt_again() is None
    engine.assert_archived(task_id)
    assert engine.manifest(task_id)["assets"][0]["suspect"] is None


@pytest.mark.parametrize("file", BROKEN[::3], ids=lambda file: file.name)
def test_a_file_that_stays_broken_for_an_hour_is_stored_and_marked(
    engine: Engine, sim: KlingSimulator, file: pathlib.Path
) -> None:
    sim.fault("cdn", faults.Raw(200, file.read_bytes()))
    task_id = engine.succeeded()
    assert isinstance(engine.attempt(), BodyIncomplete)
    engine.clock.advance(seconds=2 * HOUR)

    assert engine.attempt() is None
    (asset,) = engine.manifest(task_id)["assets"]
    assert asset["suspect"] == "incomplete_upstream"
    assert engine.store.content(asset["key"]) == file.read_bytes()


def test_incomplete_bytes_that_differ_each_time_are_never_believed(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = engine.succeeded()
    for kept in (0.5, 0.6, 0.7):
        sim.fault("cdn", faults.Truncate(kept=kept, with_length=True), times=1)
        assert isinstance(engine.attempt(), BodyIncomplete)
        engine.clock.advance(seconds=2 * HOUR)

    assert engine.attempt() is None
    engine.assert_archived(task_id)
    assert engine.manifest(task_id)["assets"][0]["suspect"] is None


# --- several failures at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("met", "decisive"),
    [
        ([AssetGone("x"), FetchTimeout("x"), BucketMissing("x")], BucketMissing),
        ([AssetGone("x"), FetchTimeout("x")], FetchTimeout),
        ([TooLarge("x"), ValueError("a mistake of ours")], ValueError),
        ([AssetGone("x")], AssetGone),
    ],
)
def test_of_several_failures_a_hold_decides_before_a_retry_and_a_retry_before_a_burial(
    met: list[Exception], decisive: type[Exception]
) -> None:
    assert type(gravest(met)) is decisive
    assert type(gravest(list(reversed(met)))) is decisive


def test_a_task_is_not_buried_for_one_asset_while_another_may_still_come(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = engine.succeeded(images=3)
    sim.fault("cdn", faults.Endless(), times=1)
    sim.fault("cdn", faults.Raw(500), times=1)

    assert isinstance(engine.attempt(), FetchFailed)
    shown = engine.show(task_id)
    assert shown["state"] == "succeeded"
    assert sorted(str(asset["reason"]) for asset in shown["assets"]) == ["None", "fetch_failed", "too_large"]


# --- leases -----------------------------------------------------------------------------------------------------


def test_nothing_is_put_once_the_lease_is_over(engine: Engine, sim: KlingSimulator) -> None:
    task_id = engine.succeeded()
    lease = engine.claim()
    sim.fault("cdn", faults.Call(lambda: engine.clock.advance(seconds=36)), times=1)

    assert isinstance(engine.attempt(lease), LeaseLost)
    assert engine.store.objects == {}
    assert engine.attempt() is None
    engine.assert_archived(task_id)


def test_nothing_is_put_once_the_keeper_has_dropped_the_lease(engine: Engine, sim: KlingSimulator) -> None:
    engine.succeeded()
    lease = engine.claim()
    sim.fault("cdn", faults.Call(lambda: engine.keeper.drop(lease)), times=1)

    assert isinstance(engine.attempt(lease), LeaseLost)
    assert engine.store.objects == {}


def test_nothing_is_put_once_the_task_is_forgotten(engine: Engine, sim: KlingSimulator) -> None:
    task_id = engine.succeeded()
    lease = engine.claim()

    def forgotten() -> None:
        engine.ledger.tombstones.forget(task_id, account=ACCOUNT)
        engine.keeper.renew()  # as it does every few seconds

    sim.fault("cdn", faults.Call(forgotten), times=1)

    assert isinstance(engine.attempt(lease), LeaseLost)
    assert engine.store.objects == {}


def test_no_manifest_is_put_of_a_task_that_is_forgotten_between_its_files_and_that(engine: Engine) -> None:
    task_id = engine.succeeded()
    lease = engine.claim()

    def forgotten() -> None:
        engine.ledger.tombstones.forget(task_id, account=ACCOUNT)

    at_label(engine, "list #2", forgotten)

    assert isinstance(engine.attempt(lease), LeaseLost)
    assert engine.names(task_id) == ["0.png"]


def test_a_lease_that_is_renewed_lasts_as_long_as_the_fetch(engine: Engine, sim: KlingSimulator) -> None:
    task_id = engine.succeeded()
    lease = engine.claim()

    def long_fetch() -> None:
        for _ in range(10):
            engine.clock.advance(seconds=10)
            engine.keeper.renew()

    sim.fault("cdn", faults.Call(long_fetch), times=1)

    assert engine.attempt(lease) is None
    engine.assert_archived(task_id)


def test_no_manifest_is_put_when_another_worker_has_the_task(engine: Engine) -> None:
    task_id = engine.succeeded()
    lease = engine.claim()

    def taken_over() -> None:
        # The wall clock jumps ahead: by the monotonic clock our lease has time left, in the ledger it has ended.
        engine.clock.set_ahead(seconds=36)
        assert claim_archive(engine.ledger, count=1, account=ACCOUNT)

    at_label(engine, "list #2", taken_over)

    assert isinstance(engine.attempt(lease), LeaseLost)
    assert engine.names(task_id) == ["0.png"]


# --- numbers ----------------------------------------------------------------------------------------------------


def test_files_and_bytes_are_counted_once_they_are_under_a_manifest(engine: Engine) -> None:
    task_id = engine.succeeded(images=2)
    engine.effects.plan["put manifest.json"] = (False, StoreUnreachable("simulated"))
    engine.attempt()
    value = engine.metrics.registry.get_sample_value
    assert value("kling_assets_archived_total", {"family": FAMILY}) is None

    engine.attempt_again()
    assert value("kling_assets_archived_total", {"family": FAMILY}) == 2
    assert value("kling_asset_bytes_total", {"family": FAMILY}) == sum(
        len(engine.sim.expected_bytes(task_id, stem)) for stem in ("0", "1")
    )


def test_the_time_to_the_manifest_is_not_that_to_its_adoption(engine: Engine) -> None:
    task_id = engine.succeeded()
    engine.clock.advance(seconds=60)
    engine.attempt()
    engine.restart(ledger_lost=True)
    engine.verify(task_id)
    engine.clock.advance(seconds=DAY)
    engine.attempt()

    seconds = engine.metrics.registry.get_sample_value("kling_archive_seconds_sum")
    count = engine.metrics.registry.get_sample_value("kling_archive_seconds_count")
    assert seconds is not None
    assert (count, round(seconds / 60)) == (2, 2)


def test_the_name_of_the_manifest_is_the_contracts() -> None:
    assert manifest.FILE_NAME == "manifest.json"


# --- lost before the API named a file ---------------------------------------------------------------------------


def test_a_task_that_nobody_could_ask_about_until_its_deadline_is_archived_when_the_api_answers_again(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = sim.create_task()
    sim.process(task_id)
    engine.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.RUNNING, FAMILY)])
    engine.verify(task_id)
    engine.clock.advance(seconds=31 * DAY)
    engine.ledger.deadlines.expire()
    assert engine.show(task_id)["state"] == "lost"
    sim.succeed(task_id)

    assert isinstance(engine.attempt(), ResultsMissing)
    assert engine.refresh()
    assert engine.attempt() is None
    engine.assert_archived(task_id)
