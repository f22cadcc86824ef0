"""`retry`."""

import json

import pytest

from archiver.failures import NotMedia
from tests.harness.command_line import ACCOUNT, NOW, CommandLine, api_task, bury, record


def state_of(line: CommandLine, task_id: str) -> str:
    with line.ledger(daemon=False) as ledger:
        shown = ledger.views.show(task_id, account=ACCOUNT)
    return str(shown and shown.state)


def is_due(line: CommandLine, task_id: str) -> bool:
    with line.ledger(daemon=False) as ledger:
        return task_id in {
            lease.task_id for lease in ledger.claims.verify(count=1000, offset=0, account=ACCOUNT)
        }


def test_retry_makes_a_buried_task_due_now(filled: CommandLine) -> None:
    assert not is_due(filled, "2")

    result = filled.run("retry", "2")

    assert result.exit_code == 0
    assert result.stdout == "1 task will be asked for again now.\n"
    assert is_due(filled, "2")


def test_retry_says_that_no_daemon_is_there_to_do_the_work(filled: CommandLine) -> None:
    alone = filled.run("retry", "2").stderr
    with filled.ledger() as ledger:
        ledger.daemons.beat("daemon", version="1", started_at=NOW)
    beside = filled.run("retry", "2").stderr

    assert "No kling-receiver has been seen" in alone
    assert beside == ""


def test_retry_of_an_unknown_id_ends_with_1_and_retries_the_known_ones(filled: CommandLine) -> None:
    result = filled.run("retry", "nobody", "2", "\udcff")

    assert result.exit_code == 1
    assert "id or external id nobody." in result.stderr
    assert "id or external id \\udcff." in result.stderr
    assert is_due(filled, "2")


def test_retry_does_not_change_an_archived_task(filled: CommandLine) -> None:
    result = filled.run("retry", "order-1", "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"retried": 0, "archived": ["order-1"], "unknown": []}
    assert state_of(filled, "1") == "archived"


def test_retry_takes_external_ids(filled: CommandLine) -> None:
    with filled.ledger() as ledger:
        record(ledger, api_task("4", external_task_id="order-4"))
        bury(ledger, "4", NotMedia("HTML"))

    assert json.loads(filled.run("retry", "order-4", "--json").stdout)["retried"] == 1
    assert is_due(filled, "4")


def test_an_id_given_twice_is_retried_once(filled: CommandLine) -> None:
    assert json.loads(filled.run("retry", "2", "2", "--json").stdout)["retried"] == 1


def test_retry_buried_takes_every_buried_task_in_batches(line: CommandLine) -> None:
    ids = [str(number) for number in range(1201)]
    with line.ledger() as ledger:
        for some in (ids[:500], ids[500:1000], ids[1000:]):
            record(ledger, *(api_task(one, has_results=False) for one in some))

    result = line.run("retry", "--buried", "--json")

    assert json.loads(result.stdout) == {"retried": 1201, "archived": [], "unknown": []}


def test_retry_buried_with_nothing_buried_is_done(line: CommandLine) -> None:
    with line.ledger():
        pass

    result = line.run("retry", "--buried")

    assert (result.exit_code, result.stdout) == (0, "0 tasks will be asked for again now.\n")


@pytest.mark.parametrize("arguments", [[], ["1", "--buried"]])
def test_retry_takes_either_ids_or_buried(filled: CommandLine, arguments: list[str]) -> None:
    result = filled.run("retry", *arguments)

    assert result.exit_code == 2
    assert "--buried" in result.stderr
