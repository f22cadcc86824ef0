"""Files that are no whole pictures or too large, and several failures at once."""

import pathlib
from collections.abc import Callable

import pytest

from archiver.archive.stage import gravest
from archiver.failures import (
    AssetGone,
    BodyIncomplete,
    BucketMissing,
    FetchFailed,
    FetchTimeout,
    NotMedia,
    SpoolFull,
    TooLarge,
)
from archiver.fetch.spool import Space
from tests.harness.engine import Engine
from tests.media_corpus import table as media_corpus
from tests.simulator import KlingSimulator, faults

HOUR = 3600.0


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
