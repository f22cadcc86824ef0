"""A CDN that sends something else than the file: the archive stage takes none of it for an image, and loses nothing.

The fetcher's own tests show every way of breaking HTTP on raw sockets. Here each kind happens to a whole task, real
ledger included: what the task is said to suffer from, that the bucket and the spool stay empty, and that the file is
stored as soon as it can be had.
"""

import pathlib
from collections.abc import Iterator, Mapping

import pytest

from archiver.failures import Failure
from tests.harness.engine import ACCOUNT, Engine
from tests.simulator import KlingSimulator, faults

DAY_SECONDS = 86_400


@pytest.fixture(scope="module")
def sim() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator


@pytest.fixture
def engine(sim: KlingSimulator, tmp_path: pathlib.Path) -> Iterator[Engine]:
    with Engine(sim, tmp_path) as made:
        yield made
    sim.clear_faults()
    sim.complaints.clear()


RETRIED: Mapping[str, tuple[faults.Fault, str]] = {
    "cut off, with a length": (faults.Cut(), "body_incomplete"),
    "cut off without a byte": (faults.Cut(kept=0), "fetch_failed"),
    "reset in the middle": (faults.Cut(reset=True), "fetch_failed"),
    "half of it, without a length": (faults.Truncate(), "body_incomplete"),
    "half of it, under a length that agrees": (faults.Truncate(with_length=True), "body_incomplete"),
    "a length one too large": (faults.LyingLength(1), "body_incomplete"),
    "a length one too small": (faults.LyingLength(-1), "body_incomplete"),
    "a length far too small": (faults.LyingLength(-1000), "body_incomplete"),
    "nothing, and 200": (faults.Empty(), "body_incomplete"),
    "a compression bomb": (faults.Bomb(64), "file_unusable"),
    "a server error": (faults.Raw(503), "fetch_failed"),
    "a redirect to itself": (faults.Redirect("/cdn/again"), "file_unusable"),
    "a redirect to plain http": (faults.Redirect("http://cdn.klingai.com/0.png"), "url_refused"),
    "a redirect to another port of ours": (faults.Redirect("http://127.0.0.1:1/"), "url_refused"),
    "a redirect to a private address": (faults.Redirect("https://10.0.0.1/0.png"), "url_refused"),
    "a redirect to the metadata address": (
        faults.Redirect("http://169.254.169.254/latest/meta-data/"),
        "url_refused",
    ),
    "a refusal": (faults.Raw(403), "fetch_refused"),
    "a page, and 200": (faults.Html(), "not_media"),
    "json, and 200": (faults.Json({"code": 0}), "not_media"),
}
BURIED: Mapping[str, tuple[faults.Fault, str]] = {
    "more than the largest image": (faults.Endless(), "too_large"),
}
HARMLESS: Mapping[str, faults.Fault] = {
    "as bytes": faults.WrongType(),
    "as a page": faults.WrongType("text/html; charset=utf-8"),
    "as another image": faults.WrongType("image/gif"),
    "as nothing": faults.WrongType(None),
}


def reason(error: Exception | None) -> str:
    assert isinstance(error, Failure), repr(error)
    return error.reason


@pytest.mark.parametrize("name", RETRIED)
def test_what_is_not_the_whole_file_is_not_stored_and_fetched_again(engine: Engine, name: str) -> None:
    fault, expected = RETRIED[name]
    task_id = engine.succeeded()
    engine.sim.fault("cdn", fault)

    assert reason(engine.attempt()) == expected
    assert engine.names(task_id) == []
    engine.assert_clean()
    engine.sim.clear_faults()
    assert engine.attempt_again() is None
    engine.assert_archived(task_id)


@pytest.mark.parametrize("name", BURIED)
def test_what_is_no_image_at_all_is_buried_and_asked_for_again_by_itself(engine: Engine, name: str) -> None:
    fault, expected = BURIED[name]
    task_id = engine.succeeded()
    engine.sim.fault("cdn", fault)

    assert reason(engine.attempt()) == expected
    assert (engine.show(task_id)["state"], engine.names(task_id)) == ("buried", [])
    engine.assert_clean()
    engine.sim.clear_faults()
    engine.clock.advance(seconds=DAY_SECONDS)
    assert engine.ledger.claims.verify(count=1, offset=0, account=ACCOUNT) != []
    engine.verify(task_id)
    assert engine.attempt() is None
    engine.assert_archived(task_id)


@pytest.mark.parametrize("fault", [faults.Html(), faults.Json({"code": 0})], ids=["html", "json"])
def test_what_is_no_media_for_an_hour_is_buried_and_before_that_tried_again(
    engine: Engine, fault: faults.Fault
) -> None:
    task_id = engine.succeeded()
    engine.sim.fault("cdn", fault)
    engine.attempt()
    for _ in range(3):
        assert reason(engine.attempt_again()) == "not_media"
        assert engine.show(task_id)["state"] == "succeeded"

    assert reason(engine.attempt_again()) == "not_media"
    assert (engine.show(task_id)["state"], engine.names(task_id)) == ("buried", [])
    engine.sim.clear_faults()
    engine.clock.advance(seconds=DAY_SECONDS)
    engine.verify(task_id)
    assert engine.attempt() is None
    engine.assert_archived(task_id)


@pytest.mark.parametrize("name", HARMLESS)
def test_a_wrong_type_in_the_headers_is_not_believed(engine: Engine, name: str) -> None:
    task_id = engine.succeeded()
    engine.sim.fault("cdn", HARMLESS[name])

    assert engine.attempt() is None
    engine.assert_archived(task_id)
    (asset,) = engine.manifest(task_id)["assets"]
    assert asset["content_type"] == "image/png"


def test_files_that_are_purged_before_day_30_are_buried_loudly_and_lost_at_the_deadline(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = engine.succeeded()
    sim.purge_assets(task_id)

    assert reason(engine.attempt()) == "asset_gone"
    assert engine.refresh()
    assert reason(engine.attempt()) == "asset_gone"
    shown = engine.show(task_id)
    assert (shown["state"], shown["reason"]) == ("buried", "asset_gone")
    engine.clock.advance(seconds=30 * DAY_SECONDS + 60)
    (verdict,) = engine.ledger.deadlines.expire()
    assert (verdict.task_id, verdict.verdict) == (task_id, "lost")
    assert engine.names(task_id) == []
