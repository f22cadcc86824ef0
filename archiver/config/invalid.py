"""Sentences about settings with invalid values."""

from collections.abc import Collection, Iterator

from pydantic import ValidationError

from archiver.config import accounts
from archiver.config.declarations import Declarations
from archiver.config.sources import SettingsSources
from archiver.config.table import SECRET_NAMES


def problems(
    given: SettingsSources, error: ValidationError, *, names: Collection[str] | None = None
) -> Iterator[str]:
    """A problem for each setting (in `names`) with an invalid value."""
    reported = set[str]()
    for detail in error.errors(include_url=False):
        name = str(detail["loc"][0])
        if name in reported or (names is not None and name not in names):
            continue
        reported.add(name)
        sentence = detail.get("ctx", {}).get("error") or f"must be {_expected(given, name)}"
        yield f"{given.label(name)} {sentence}."


def _expected(given: SettingsSources, name: str) -> str:
    """What the setting expects, and what was found unless it could be a secret."""
    extra = Declarations.model_fields[name].json_schema_extra
    expects = str(extra["expects"]) if isinstance(extra, dict) else "something else"
    found = given.value(name)
    if name == accounts.NAME and isinstance(found, list):
        return f"{expects}; for several accounts write [[accounts]]"
    if name in SECRET_NAMES or isinstance(found, list | dict) or (isinstance(found, str) and "://" in found):
        return expects
    return f"{expects}, not {repr(found)[:60]}"
