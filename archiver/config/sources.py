"""Where settings come from: the given environment, the TOML file that it names, and secret files.

The environment overrides the file. Within either, a secret is given directly or by its `_FILE`, never both. Problems
name the source (`KLING_PORT`, or `port` in which file) but never repeat a value.
"""

import contextlib
import dataclasses
import difflib
import pathlib
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping

from archiver.model import ACCOUNT_NAME

PREFIX = "KLING_"
CONFIG_NAME = "KLING_CONFIG"
ACCOUNTS_KEY = "accounts"
_CONFIG_BYTES_MAX = 1024 * 1024
_SECRET_BYTES_MAX = 64 * 1024
_UTF_8 = "utf-8-sig"
"""Windows' editors begin a file with a byte order mark."""
ALL = "*"
"""Any setting."""
_Label = Callable[[str], str]


def _variable(key: str) -> str:
    return PREFIX + key.upper()


@dataclasses.dataclass(frozen=True, slots=True)
class KnownSettings:
    """The names of settings, in lower case without prefix."""

    names: Collection[str]
    secrets: Collection[str]
    """These may also come from a file, as `<name>_file`."""
    needed_secrets: Collection[str]
    """Other secrets are not read, wherever they are: their files may be unreadable, their values wrong."""
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Written key → the setting that it means."""

    def keys(self) -> Iterator[str]:
        yield from self.aliases
        yield from (name for name in self.names if name not in self.aliases.values())
        yield from (f"{name}_file" for name in self.secrets)


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """The settings in one source."""

    values: dict[str, object]
    """The written values by name."""
    labels: dict[str, str]
    """How messages name each value."""


@dataclasses.dataclass(frozen=True, slots=True)
class SettingsSources:
    """All that was written, with its problems and warnings."""

    layers: list[Layer] = dataclasses.field(default_factory=list)
    """The first layer that has a name wins."""
    problems: list[str] = dataclasses.field(default_factory=list)
    unknown: list[str] = dataclasses.field(default_factory=list)
    """A sentence for each variable that is not a setting."""
    misspelled: list[str] = dataclasses.field(default_factory=list)
    """A sentence for each variable that nearly has the name of a setting."""
    unread: set[str] = dataclasses.field(default_factory=set)
    """Settings whose file could not be read: they do not count as missing. `ALL` if the TOML file could not be read."""
    written: dict[str, str] = dataclasses.field(default_factory=dict)
    """Key → how messages name it."""
    accounts: list["AccountSources"] | None = None
    """The tables under `[[accounts]]`, if any."""
    spelled: _Label = _variable
    """How messages name a setting that was not written."""

    def has(self, name: str) -> bool:
        return any(name in layer.values for layer in self.layers)

    def may_have(self, name: str) -> bool:
        """Whether the setting is given, or may be given in a file that could not be read. The unreadable file is a
        separate problem."""
        return self.has(name) or bool(self.unread & {name, ALL})

    def value(self, name: str) -> object:
        return next((layer.values[name] for layer in self.layers if name in layer.values), None)

    def label(self, name: str) -> str:
        """How messages name a setting."""
        labels = (layer.labels[name] for layer in self.layers if name in layer.labels)
        return next(labels, None) or self.spelled(name)


@dataclasses.dataclass(frozen=True, slots=True)
class AccountSources:
    """One table under `[[accounts]]`."""

    label: str
    """How messages name it: by its name or, if that is invalid, its number."""
    given: SettingsSources

    def problem(self, sentence: str) -> str:
        return f"{self.label}: {sentence}"


def read(
    environ: Mapping[str, str], *, known: KnownSettings, known_of_account: KnownSettings
) -> SettingsSources:
    """Read the values, without checking them."""
    given = SettingsSources()
    _read_environment(given, environ, known=known)
    config = environ.get(CONFIG_NAME, "").strip()
    if not config:
        return given
    path = _at_home(config)
    document = _read_config(given, path)
    tables = document.pop(ACCOUNTS_KEY, None)
    _add_table(given, document, known=known, label=lambda key: f"{key!r} in {path}", where=f"in {path}")
    if tables is None:
        return given
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        given.problems.append(
            f"{ACCOUNTS_KEY!r} in {path} must be tables: write [[accounts]] above each account."
        )
        tables = []
    accounts = [
        _read_account(table, path, number=number, known=known_of_account)
        for number, table in enumerate(tables, 1)
    ]
    return dataclasses.replace(given, accounts=accounts)


def _read_environment(given: SettingsSources, environ: Mapping[str, str], *, known: KnownSettings) -> None:
    """An empty variable counts as unset: compose and unit files write unset ones like that."""
    own = {
        name.removeprefix(PREFIX).lower(): value.strip()
        for name, value in environ.items()
        if name.startswith(PREFIX) and name.isupper() and name != CONFIG_NAME and value.strip()
    }
    keys = frozenset(known.keys())
    for key in sorted(own.keys() - keys):
        guess = _did_you_mean(key, keys, spelled=_variable)
        (given.misspelled if guess else given.unknown).append(
            f"{_variable(key)} is not a setting{guess or '.'}"
        )
    _add_layer(given, {key: own[key] for key in own.keys() & keys}, known=known, label=_variable)


def _read_config(given: SettingsSources, path: pathlib.Path) -> dict[str, object]:
    """Empty, with a problem, if the file cannot be read."""
    try:
        with path.open("rb") as file:
            text = file.read(_CONFIG_BYTES_MAX)
        return tomllib.loads(text.decode(_UTF_8))
    except (OSError, ValueError, RecursionError) as error:
        given.unread.add(ALL)
        given.problems.append(f"{CONFIG_NAME} names {str(path)!r}, which {_unreadable(error, 'TOML')}.")
        return {}


def _read_account(
    table: Mapping[str, object], path: pathlib.Path, *, number: int, known: KnownSettings
) -> AccountSources:
    given = SettingsSources(spelled=lambda name: repr(_spelled(name, known)))
    _add_table(given, table, known=known, label=repr, where="here")
    name = table.get("name")
    # An invalid name is not repeated: it could be a misplaced secret.
    is_name = isinstance(name, str) and ACCOUNT_NAME.fullmatch(name)
    label = f"the account {name!r} in {path}" if is_name else f"number {number} of the [[accounts]] in {path}"
    return AccountSources(label, given)


def _spelled(name: str, known: KnownSettings) -> str:
    return next((alias for alias, meant in known.aliases.items() if meant == name), name)


def _add_table(
    given: SettingsSources, table: Mapping[str, object], *, known: KnownSettings, label: _Label, where: str
) -> None:
    """Add a TOML table as a layer."""
    keys = frozenset(known.keys())
    given.problems.extend(
        f"{key!r} {where} is not a setting{_did_you_mean(key, keys, spelled=repr) or '.'} Correct or remove it."
        for key in table
        if key not in keys
    )
    written = {known.aliases.get(key, key): table[key] for key in table.keys() & keys}
    _add_layer(given, written, known=known, label=lambda name: label(_spelled(name, known)))


def _add_layer(
    given: SettingsSources, written: Mapping[str, object], *, known: KnownSettings, label: _Label
) -> None:
    unread = set(known.secrets) - set(known.needed_secrets)
    direct = {name: written[name] for name in written.keys() & set(known.names) - unread}
    layer = Layer(values=direct, labels={name: label(name) for name in direct})
    given.layers.append(layer)
    for key in written:
        given.written.setdefault(key, label(key))
    for name in known.secrets:
        key = f"{name}_file"
        if key in written and name in written:
            given.problems.append(f"{label(name)} and {label(key)} are both set: remove one of them.")
        elif key in written and name in known.needed_secrets:
            text = _secret(given, written[key], label=label(key))
            if text:
                layer.values[name] = text
                layer.labels[name] = label(key)
            else:
                given.unread.add(name)


def _secret(given: SettingsSources, path: object, *, label: str) -> str | None:
    """None, with a problem, if the file has no text."""
    if not isinstance(path, str):
        given.problems.append(f"{label} must be the path of a file.")
        return None
    try:
        with _at_home(path).open("rb") as file:
            text = file.read(_SECRET_BYTES_MAX).decode(_UTF_8).strip()
    except (OSError, ValueError) as error:
        given.problems.append(f"{label} names a file that {_unreadable(error, 'text')}.")
        return None
    if not text:
        given.problems.append(f"{label} names a file that is empty: put the secret into it.")
    return text


def _at_home(path: str) -> pathlib.Path:
    """`~/x` as a shell reads it; raises nothing, because the path as it is will not be found."""
    with contextlib.suppress(RuntimeError):
        return pathlib.Path(path).expanduser()
    return pathlib.Path(path)


def _unreadable(error: Exception, kind: str) -> str:
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror}): correct the path or its permissions"
    if isinstance(error, tomllib.TOMLDecodeError):
        # Only the position: the parser's message may quote the file.
        place = str(error).rpartition("(")[2].rstrip(")")
        return f"is not valid {kind} ({place})"
    return f"is not valid {kind}"


def _did_you_mean(key: str, keys: Collection[str], *, spelled: _Label) -> str:
    near = difflib.get_close_matches(key, sorted(keys), n=1, cutoff=0.75)
    return f"; did you mean {spelled(near[0])}?" if near else ""
