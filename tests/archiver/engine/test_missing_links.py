"""A worker without links beside a gateway."""

import contextlib
import pathlib

import pytest

from archiver.engine.forwarding.missing_links import MissingLinks
from archiver.ledger import Service
from tests.harness.ledgers import ACCOUNT, MINUTE, START, Desk


@pytest.mark.parametrize(
    ("beside", "accounts", "is_problem"),
    [
        ([Service.GATEWAY], [ACCOUNT], True),
        ([Service.GATEWAY], [], False),
        ([Service.DOOR, Service.WORK], [ACCOUNT], False),
    ],
)
def test_a_worker_without_links_is_a_problem_while_a_gateway_lives(
    tmp_path: pathlib.Path, beside: list[Service], accounts: list[str], is_problem: bool
) -> None:
    with contextlib.closing(Desk(tmp_path)) as desk:
        links = MissingLinks(desk.ledger, accounts)
        assert links.problems() == ()
        desk.ledger.daemons.beat("beside", version="1", started_at=START, serves=beside)
        found = [(problem.code, problem.reason) for problem in links.problems()]
        assert found == ([("settings", "no_links")] if is_problem else [])

        desk.clock.advance(3 * MINUTE)
        assert links.problems() == ()
