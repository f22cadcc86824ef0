"""The table of all settings, and which of them are secrets. A secret that a role does not need is not read."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from archiver.config import sources
from archiver.config.checks import Need
from archiver.config.declarations import Declarations
from archiver.config.sources import PREFIX


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """A row of the table in deploy/settings.md."""

    name: str
    default: str
    """The default as text; empty if there is none."""
    meaning: str
    expects: str
    secret: bool
    """The setting is a secret, or may contain one: it may also be read from a file."""


_SECRET_NEEDS: Final[Mapping[str, Collection[Need]]] = {
    "access_key": (Need.KLING,),
    "secret_key": (Need.KLING,),
    "api_key": (Need.KLING,),
    "callback_token": (Need.CALLBACKS, Need.CALLBACK_URL),
    "signing_secret": (Need.CALLBACKS, Need.FORWARDS),
    "admin_token": (Need.ADMIN,),
    "link_secret": (Need.LINKS,),
    "gateway_key": (Need.GATEWAY,),
    "client_api_keys": (Need.GATEWAY,),
    "forward_url": (Need.FORWARDS,),
    "forward_secret": (Need.FORWARDS,),
    "alert_url": (Need.ALERTS,),
    "alert_secret": (Need.ALERTS,),
}
"""Secret → the needs for which it is read."""
SECRET_NAMES: Final = tuple(_SECRET_NEEDS)
_WITH_PASSWORDS: Final = ("ledger_url", "ledger_listen_url")
"""Settings that may hold a secret, which every role and command needs."""


def _table() -> Iterator[Setting]:
    for name, field in Declarations.model_fields.items():
        if isinstance(extra := field.json_schema_extra, dict):
            yield Setting(
                name=PREFIX + name.upper(),
                default=str(extra["default"]),
                meaning=field.description or "",
                expects=str(extra["expects"]),
                secret=name in SECRET_NAMES,
            )


SETTINGS: Final[tuple[Setting, ...]] = tuple(_table())
"""In the order of the contract. A test compares the table in deploy/settings.md with them."""


def known(need: Collection[Need]) -> sources.KnownSettings:
    return sources.KnownSettings(
        names=[setting.name.removeprefix(PREFIX).lower() for setting in SETTINGS],
        secrets=[*SECRET_NAMES, *_WITH_PASSWORDS],
        needed_secrets=[
            *(name for name, parts in _SECRET_NEEDS.items() if set(parts) & set(need)),
            *_WITH_PASSWORDS,
        ],
    )
