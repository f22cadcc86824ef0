"""What Kling says of a create, and what becomes of its reference then; it is sent twice in one case only."""

import contextlib

import pytest

from archiver.metrics import CreateResult
from receiver.gateway.exchange import (
    GatewayAnswer,
    NoAnswer,
    NotReached,
    Source,
)
from tests.receiver.gateway.creates.gate import CLIENT, Answer, Opened, created, run, said


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
