"""What the gateway reads of tasks to compare answers of the API with them."""

from archiver.model import State
from tests.harness.ledgers import ACCOUNT, FAMILY, Desk, answer


def test_tasks_are_known_by_their_ids_and_external_ids_once_and_to_their_account_only(desk: Desk) -> None:
    desk.bring(State.ARCHIVED, "archived")
    desk.say(answer("named", external_task_id="mine"))
    desk.tell("told")
    views = desk.ledger.views

    known = views.known_tasks(
        account=ACCOUNT, task_ids=["archived", "named", "nobody", "mine"], external_task_ids=["mine", "told"]
    )
    (told,) = views.known_tasks(account=ACCOUNT, task_ids=["told"])

    assert sorted((task.task_id, task.state, task.family) for task in known) == [
        ("archived", State.ARCHIVED, FAMILY),
        ("named", State.SUCCEEDED, FAMILY),
    ]
    (archived,) = [task for task in known if task.task_id == "archived"]
    assert (archived.manifest_key, archived.amendment_keys) == ("f/manifest.json", ())
    assert [leased.stored is not None for leased in archived.assets] == [True]
    assert (told.family, told.family_hint, told.state) == (None, FAMILY, State.REPORTED)
    assert views.known_tasks(account="other", task_ids=["archived"]) == []
