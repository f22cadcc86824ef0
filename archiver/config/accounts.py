"""The `[[accounts]]` of the TOML file: what each may say, and what two of them may not have in common. No I/O.

The rule: what makes an account this one (name, keys, token, signing secrets, prefix) stands in its own table and
nowhere else; what accounts may share (`SHARED`) stands there or, as a default for all of them, where it always stood.
So a daemon of one account needs no table, and with tables nothing that stands elsewhere can end up with the wrong one.

Prefixes: neither of two may begin with the other, because keys are made from them literally. Below `a/`, an account
with the prefix `a/b/` would lie among the results of the first one: whoever lists the first account's folder would
take them for its own, and a family named `b/…` could meet the other's keys. The empty prefix begins all others.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Final

from archiver.config import values
from archiver.config.sources import AccountSources, KnownSettings, Layer, SettingsSources

NAME: Final = "account"
"""The setting that a table's `name` becomes."""
OWN: Final = (
    NAME,
    "access_key",
    "secret_key",
    "api_key",
    "callback_token",
    "signing_secret",
    "s3_prefix",
)
"""Settings that belong to one account."""
SHARED: Final = ("base_url", "families", "signature", "query_rate_per_second", "public_url")
"""Settings that an account may have of its own, and otherwise takes from the rest."""
KEYS: Final = ("name", *OWN[1:], *SHARED)
"""What may stand in a table; of secrets also `<key>_file`."""


def known(settings: KnownSettings) -> KnownSettings:
    """The names of a table, out of those of all settings."""
    return KnownSettings(
        names=[*OWN, *SHARED],
        secrets=[name for name in settings.secrets if name in OWN],
        needed_secrets=[name for name in settings.needed_secrets if name in OWN],
        aliases={"name": NAME},
    )


def alone(account: AccountSources, everywhere: SettingsSources) -> SettingsSources:
    """What the account would read if it were the only one: its table, and behind it what stands elsewhere for all."""
    shared = [
        Layer(
            {name: value for name, value in layer.values.items() if name not in OWN},
            {name: label for name, label in layer.labels.items() if name not in OWN},
        )
        for layer in everywhere.layers
    ]
    return dataclasses.replace(account.given, layers=[*account.given.layers, *shared])


def misplaced(everywhere: SettingsSources) -> Iterator[str]:
    """A sentence for each setting that belongs into one of the tables and stands beside them."""
    for name in OWN:
        for key in (name, f"{name}_file"):
            if key in everywhere.written:
                yield (
                    f"{everywhere.written[key]} is set beside [[accounts]], where it belongs to none of them: "
                    "move it into the table of its account, or remove it."
                )


def conflicts(accounts: Sequence[AccountSources]) -> Iterator[str]:
    """A sentence for each pair that cannot be told apart."""
    for one, other in itertools.combinations(accounts, 2):
        pair = f"{one.label} and {other.label}"
        name = one.given.value(NAME)
        if name is not None and name == other.given.value(NAME):
            yield f"{pair} have the same 'name': give each a name of its own."
        if _tokens(one) & _tokens(other):
            yield (
                f"{pair} have the same 'callback_token', and it is the token that tells whose a callback is: "
                "make another one."
            )
        yield from _prefix_conflict(_prefix(one), _prefix(other), pair=pair)


def _tokens(account: AccountSources) -> set[str]:
    try:
        return set(values.comma_list(account.given.value("callback_token")))
    except ValueError:
        return set()


def _prefix(account: AccountSources) -> object:
    return account.given.value("s3_prefix") or ""


def _prefix_conflict(one: object, other: object, *, pair: str) -> Iterator[str]:
    if not isinstance(one, str) or not isinstance(other, str):
        return
    shorter, longer = sorted((one, other), key=len)
    if not longer.startswith(shorter):
        return
    if not shorter:
        how = "one of them has no 's3_prefix', so that all of the bucket is its own"
    elif longer == shorter:
        how = "both have the same 's3_prefix'"
    else:
        how = "the 's3_prefix' of one begins with that of the other"
    yield (
        f"{pair} would put their results among each other's: {how}. Give each a folder that is not within the "
        "other's."
    )
