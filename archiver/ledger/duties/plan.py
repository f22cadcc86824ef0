"""Which process should query the API for which account: a pure function, so that all processes compute the same answer.

1. Each account goes to a process whose settings name it.
2. No process has more than its share: accounts ÷ processes, rounded up. It gets more only if no other process could
   have the account.
3. A process keeps its accounts, up to its share: an account that moves costs a few queries.
"""

import collections
from collections.abc import Collection, Mapping


def assign(askers: Mapping[str, Collection[str]], holders: Mapping[str, str]) -> dict[str, str]:
    """Account → the name of its process. `askers`: name → the accounts that its settings name. `holders`: account → the
    process that has it now."""
    accounts = sorted({account for named in askers.values() for account in named})
    share = -(-len(accounts) // max(1, len(askers)))
    assigned: dict[str, str] = {}
    load = collections.Counter[str]()

    def give(account: str, name: str) -> None:
        assigned[account] = name
        load[name] += 1

    kept = {
        account: holders[account]
        for account in accounts
        if account in askers.get(holders.get(account, ""), ())
    }
    surplus: list[str] = []
    for account, holder in kept.items():
        if load[holder] < share:
            give(account, holder)
        else:
            surplus.append(account)
    for account in [*(account for account in accounts if account not in kept), *surplus]:
        able = [name for name, named in sorted(askers.items()) if account in named]
        idlest = min(able, key=lambda name: load[name])
        give(account, kept[account] if account in kept and load[idlest] >= share else idlest)
    return assigned
