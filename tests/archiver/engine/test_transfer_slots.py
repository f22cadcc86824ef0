"""Transfer slots: all for one, and a fair part for each of several."""

import random

import pytest

from archiver.engine.slots.transfer_slots import TransferSlots


def test_an_account_that_is_alone_may_have_every_slot() -> None:
    slots = TransferSlots(16)

    assert [slots.take("a", 10), slots.take("a", 10), slots.take("a", 10)] == [10, 6, 0]


def joined(total: int, *accounts: str) -> TransferSlots:
    slots = TransferSlots(total)
    for account in accounts:
        slots.join(account, wake=lambda: None)
    return slots


@pytest.mark.parametrize(
    ("total", "accounts", "most"), [(16, 2, 15), (16, 3, 14), (16, 9, 12), (4, 9, 3), (3, 2, 3)]
)
def test_a_slot_is_left_for_each_account_that_has_none_and_never_more_than_a_quarter(
    total: int, accounts: int, most: int
) -> None:
    slots = joined(total, *(f"a{number}" for number in range(accounts)))

    assert slots.take("a0", 1000) == most
    assert slots.take("a1", 1000) == min(1, total - most)


def test_a_reserved_slot_goes_to_no_account_as_its_second() -> None:
    slots = joined(16, "slow", "fresh", "idle")
    slots.take("slow", 1000)

    for _ in range(5):
        assert slots.take("fresh", 1) == 1
        assert slots.take("fresh", 1) == 0
        slots.give_back("fresh")


def test_the_next_slot_goes_to_the_waiting_account_that_has_the_fewest() -> None:
    slots = TransferSlots(16)
    slots.take("backlog", 1000)
    assert slots.take("fresh", 4) == 0

    slots.give_back("backlog")
    assert slots.take("backlog", 1000) == 0
    assert slots.take("fresh", 4) == 1
    slots.give_back("backlog", 2)
    assert [slots.take("backlog", 1000), slots.take("fresh", 3)] == [0, 2]


def test_nothing_is_left_for_an_account_that_has_nothing_due() -> None:
    slots = TransferSlots(4)
    slots.take("a", 4)
    slots.take("b", 4)
    slots.idle("b")
    slots.give_back("a")

    assert slots.take("a", 1) == 1


def test_slots_that_were_taken_for_too_little_work_go_to_the_others() -> None:
    slots = TransferSlots(4)
    given = slots.take("a", 4)
    slots.take("b", 4)
    slots.give_back("a", given - 1)

    assert slots.take("b", 4) == 3


def test_only_waiting_accounts_are_woken_when_a_slot_comes_free() -> None:
    slots, woken = TransferSlots(2), list[str]()
    for account in ("a", "b", "c"):
        slots.join(account, wake=lambda account=account: woken.append(account))  # type: ignore[misc]  # bound now
    slots.take("a", 2)
    slots.take("b", 1)
    slots.give_back("a")

    assert woken == ["b"]


def test_one_slot_is_shared_in_turn() -> None:
    slots, order = TransferSlots(1), list[str]()
    for _ in range(6):
        for account in ("a", "b", "c"):
            if slots.take(account, 9):
                order.append(account)
                last = account
        slots.give_back(last)

    assert order[:3] == ["a", "b", "c"]
    assert sorted(order) == sorted("abc" * 2)


@pytest.mark.parametrize("seed", range(20))
def test_no_more_slots_are_given_than_exist_and_no_account_with_work_starves(seed: int) -> None:
    choose = random.Random(seed)
    total, accounts = choose.randint(1, 12), "abcd"[: choose.randint(1, 4)]
    slots, running, waited = TransferSlots(total), dict.fromkeys(accounts, 0), dict.fromkeys(accounts, 0)
    for _ in range(2000):
        account = choose.choice(accounts)
        if choose.random() < 0.5 and running[account]:
            slots.give_back(account)
            running[account] -= 1
            continue
        given = slots.take(account, choose.randint(1, 20))
        running[account] += given
        waited[account] = 0 if given or running[account] else waited[account] + 1
        assert sum(running.values()) <= total, f"seed {seed}"
        assert waited[account] < 200, f"seed {seed}"
