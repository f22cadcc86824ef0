"""The `[[accounts]]` of the TOML file: what a table may contain, and how tables conflict. No I/O.

Settings that identify an account (`OWN`) belong in its table only, so that none can end up with the wrong account.
Others (`SHARED`) belong in a table or, as a default for all accounts, outside.

No account's prefix may begin with another's. With `a/` and `a/b/`, a listing of the first account would include the
results of the second, and a family named `b/…` could collide with its keys.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Final

from archiver.config.checks import tokens_of
from archiver.config.sources import AccountSources, KnownSettings, Layer, SettingsSources

NAME: Final = "account"
"""A table calls this setting `name`."""
FORMER_NAMES: Final = "account_former_names"
"""A table calls this setting `former_names`."""
ALIASES: Final = {"name": NAME, "former_names": FORMER_NAMES}
OWN: Final = (
    NAME,
    FORMER_NAMES,
    "access_key",
    "secret_key",
    "api_key",
    "callback_token",
    "signing_secret",
    "gateway_key",
    "client_api_keys",
    "s3_prefix",
)
"""Settings that belong to one account."""
SHARED: Final = (
    "base_url",
    "families",
    "ignored_families",
    "signature",
    "query_rate_per_second",
    "public_url",
)
"""Settings that may be inside a table or outside."""
KEYS: Final = (*ALIASES, *OWN[2:], *SHARED)
"""What a table may contain; for secrets also `<key>_file`."""


def known(settings: KnownSettings) -> KnownSettings:
    """The settings of a table."""
    return KnownSettings(
        names=[*OWN, *SHARED],
        secrets=[name for name in settings.secrets if name in OWN],
        needed_secrets=[name for name in settings.needed_secrets if name in OWN],
        aliases=ALIASES,
    )


def with_shared(account: AccountSources, outside: SettingsSources) -> SettingsSources:
    """The account's table first, then the shared settings from outside."""
    shared = [
        Layer(
            {name: value for name, value in layer.values.items() if name not in OWN},
            {name: label for name, label in layer.labels.items() if name not in OWN},
        )
        for layer in outside.layers
    ]
    return dataclasses.replace(account.given, layers=[*account.given.layers, *shared])


def misplaced(outside: SettingsSources) -> Iterator[str]:
    """A problem for each setting outside that belongs in a table."""
    for name in OWN:
        for key in (name, f"{name}_file"):
            if key in outside.written:
                yield (
                    f"{outside.written[key]} is set outside [[accounts]], but belongs to one account: "
                    "move it into the table of that account, or remove it."
                )


def conflicts(accounts: Sequence[AccountSources]) -> Iterator[str]:
    """A problem for each pair of accounts that cannot be distinguished."""
    for first, second in itertools.combinations(accounts, 2):
        pair = f"{first.label} and {second.label}"
        name = first.given.value(NAME)
        if name is not None and name == second.given.value(NAME):
            yield f"{pair} have the same 'name': give each account its own name."
        if tokens_of(first.given) & tokens_of(second.given):
            yield (
                f"{pair} have the same 'callback_token', but the token tells which account a callback is for: make a "
                "different token for each."
            )
        yield from _prefix_conflict(_prefix(first), _prefix(second), pair=pair)


def _prefix(account: AccountSources) -> object:
    return account.given.value("s3_prefix") or ""


def _prefix_conflict(first: object, second: object, *, pair: str) -> Iterator[str]:
    if not isinstance(first, str) or not isinstance(second, str):
        return
    shorter, longer = sorted((first, second), key=len)
    if not longer.startswith(shorter):
        return
    if not shorter:
        cause = "one account has no 's3_prefix', so the whole bucket belongs to it"
    elif longer == shorter:
        cause = "both have the same 's3_prefix'"
    else:
        cause = "one 's3_prefix' begins with the other"
    yield (
        f"{pair} would mix their results: {cause}. Give each account its own folder, not inside the other's."
    )
