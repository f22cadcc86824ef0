"""`verify --repair` as a specification: what the command finds missing, the engine brings back."""

from typing import Any

from archiver.audit.objects import ObjectFinding
from archiver.audit.places import Span
from archiver.audit.sample import Sample
from archiver.audit.verification import Verification, VerifiedAccount
from tests.harness.engine import ACCOUNT, Engine
from tests.harness.patience import patient


def verify(engine: Engine, *, repair: bool = False) -> list[ObjectFinding]:
    """What is wrong."""
    values: dict[str, Any] = {"span": Span(), "sample": Sample(), "repair": repair}
    account = VerifiedAccount(ACCOUNT, frozenset({ACCOUNT}), "kling/")
    verification = Verification(
        patient(engine.store),
        engine.ledger,
        [account],
        now=engine.clock.now,
        on_bytes=lambda _: None,
        **values,
    )
    return [finding for finding in verification.run() if finding.is_fault]


def restore(engine: Engine) -> None:
    """The API is asked, and then the worker has its turn."""
    questions = engine.stages.restore_questions
    while (lease := questions.claim()) is not None:
        questions.answer(lease)
    while engine.stages.folder_worker.work_once():
        pass


def test_what_is_missing_is_back_and_what_was_rotten_too_once_it_is_removed(engine: Engine) -> None:
    missing, rotten = (engine.succeeded(images=2) for _ in range(2))
    for _ in range(2):
        assert engine.attempt() is None
    assert verify(engine) == []
    gone = [engine.folder(missing) + name for name in ("0.png", "manifest.json")]
    bad = engine.folder(rotten) + "1.png"
    for key in (*gone, bad):
        engine.store.vanish(key)
    engine.store.place(bad, b"rotten")

    found = {finding.key: finding.symbol for finding in verify(engine, repair=True)}
    assert found == {gone[0]: "+", gone[1]: "+", bad: "*"}
    restore(engine)

    (fault,) = verify(engine, repair=True)
    assert (fault.key, engine.store.content(bad)) == (bad, b"rotten"), "nothing is overwritten"
    engine.store.vanish(bad)
    verify(engine, repair=True)
    restore(engine)

    assert verify(engine) == []
    for task_id in (missing, rotten):
        engine.assert_archived(task_id)


def test_what_was_put_back_once_and_is_missing_again_is_put_back_if_the_operator_asks(engine: Engine) -> None:
    task_id = engine.succeeded()
    assert engine.attempt() is None
    key = engine.folder(task_id) + "0.png"

    for _ in range(3):
        engine.store.vanish(key)
        assert [finding.key for finding in verify(engine, repair=True)] == [key]
        restore(engine)
        assert verify(engine) == []
