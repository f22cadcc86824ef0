"""The accounts that the settings name, compared with those of the ledger, and what `problems` expects of them."""

from archiver.config.roles import ProcessRole
from archiver.config.settings import Settings, SettingsError
from archiver.families import swept
from archiver.ledger import Ledger
from archiver.problems import Expected


def expected_of(settings: Settings, role: ProcessRole = ProcessRole.WHOLE) -> Expected:
    """The settings that `problems` compares the ledger with. A door knows only the names of accounts; the workers
    report which families are swept."""
    if not role.works:
        return Expected({account.name: () for account in settings.accounts}, 0)
    families = {
        account.name: swept(account.families, has_api_key=account.api_key is not None)
        for account in settings.accounts
    }
    return Expected(families, int(settings.sweep_interval_seconds * 1000))


def require_account(ledger: Ledger, settings: Settings) -> None:
    """Raises SettingsError where the ledger knows accounts, and the settings name none of them: a second history would
    begin beside the first, and no worker would serve the first."""
    known, ours = ledger.accounts.names(), [account.name for account in settings.accounts]
    if not known or not set(known).isdisjoint(ours):
        return
    old, new = (names[0] if len(names) == 1 else word for names, word in ((known, "OLD"), (ours, "NEW")))
    where = "[[accounts]]" if settings.several else "KLING_ACCOUNT"
    problem = (
        f"the ledger {ledger.database.name} has tasks of the account {' and '.join(known)} only, and {where} names "
        f"{' and '.join(ours)}. If you renamed the account, run: kling-archiver rename-account {old} {new} (the bucket "
        "does not change). If it is another account, set KLING_LEDGER_URL to another ledger."
    )
    raise SettingsError([problem])
