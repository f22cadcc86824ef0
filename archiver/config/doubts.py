"""Settings that are allowed and probably a mistake. Pure functions.

A setting that cannot be intended is refused (`values`, `checks`, `accounts`). One that may be intended, but does harm
unnoticed if it is not, is a problem `settings`: `status --check` shows it until the setting is changed. A value that
the daemon corrects by itself, or that is a matter of taste, is only logged.
"""

import ipaddress
import itertools
import re
import urllib.parse
from collections.abc import Iterable, Iterator

from pydantic import SecretStr

from archiver.config import values
from archiver.config.settings import Settings
from archiver.config.sources import PREFIX
from archiver.families import FAMILIES, collection_of, similar
from archiver.model import Problem

CODE = "settings"
OUR_PATHS = frozenset({"api", "callbacks", "console", "files", "healthz", "metrics", "readyz", "v1"})
"""First segments of what the daemon serves."""
_MAKE_A_TOKEN = f"Make one of your own: {values.MAKE_A_TOKEN}"
_EXAMPLE = re.compile(
    r"a-token-of-its-own|change.?me|example|placeholder|replace.?me|your.?(own.?)?token", re.IGNORECASE
)
"""Words in example tokens, of README and of other instructions."""
_SWEEP_SECONDS_MAX = 86_400
_PRIVATE_NAMES = ("localhost", "local", "internal", "test", "home.arpa")


def sentences(settings: Settings) -> tuple[str, ...]:
    """All doubts, for the log and `--check`."""
    return (*notes(settings), *(f"{problem.message}. {problem.what_to_do}" for problem in problems(settings)))


def notes(settings: Settings) -> tuple[str, ...]:
    """Doubts that need no action."""
    return (*settings.unknown, *settings.corrected, *_prefixes(settings), *_plain_forwards(settings))


def problems(settings: Settings) -> tuple[Problem, ...]:
    """Doubts about settings that an operator should change."""
    return (
        *map(_misspelled, settings.misspelled),
        *itertools.chain.from_iterable(_of_account(account, settings) for account in settings.accounts),
        *_of_admin_token(settings),
        *_twins(settings),
        *_forwards(settings),
        *_links(settings),
        *_gateway(settings),
        *_alerts(settings),
        *_rare_sweeps(settings),
    )


def _problem(message: str, what_to_do: str, *, account: str | None = None) -> Problem:
    return Problem(code=CODE, message=message, what_to_do=what_to_do, account=account, subject=message)


def _misspelled(sentence: str) -> Problem:
    message, _, guess = sentence.partition("; ")
    return _problem(message, f"{guess[:1].upper()}{guess[1:]} Correct the name, or remove the variable.")


def _label(name: str, account: Settings, settings: Settings) -> str:
    return f"{name!r} of the account {account.name!r}" if settings.several else PREFIX + name.upper()


def _of_account(account: Settings, settings: Settings) -> Iterator[Problem]:
    name = account.name if settings.several else None
    for message, what_to_do in itertools.chain(
        _unknown_families(account.families, _label("families", account, settings)),
        _unknown_families(account.ignored_families, _label("ignored_families", account, settings)),
        _unreadable_families(account, _label("families", account, settings)),
        _ignored_families(account, _label("ignored_families", account, settings)),
        _public_url(account.public_url, _label("public_url", account, settings)),
        _example_tokens(account, _label("callback_token", account, settings)),
    ):
        yield _problem(message, what_to_do, account=name)


def _unknown_families(families: Iterable[str], label: str) -> Iterator[tuple[str, str]]:
    for family in families:
        if family not in FAMILIES:
            near = similar(family)
            guess = f"Did you mean {near}? " if near else ""
            yield (
                f"{label} names {family}, a family that this version does not know",
                f"{guess}Correct it, or remove it; if Kling has a new family of this name, install a newer version.",
            )


def _unreadable_families(account: Settings, label: str) -> Iterator[tuple[str, str]]:
    unreadable = [family for family in account.families if collection_of(family) is not None]
    is_all = set(account.families).issuperset(FAMILIES)
    if unreadable and not is_all and account.api_key is None and account.access_key is not None:
        yield (
            f"{label} names {', '.join(unreadable)}, which can be read with an API Key only",
            "Set KLING_API_KEY instead of the pair of keys, or take them out.",
        )


def _ignored_families(account: Settings, label: str) -> Iterator[tuple[str, str]]:
    both = [family for family in account.ignored_families if family in account.families]
    if both and not set(account.ignored_families).issuperset(FAMILIES):
        yield (
            f"{label} names {', '.join(both)}, which KLING_FAMILIES names too: they are swept",
            "Take them out of one of the two.",
        )


def _public_url(url: str | None, label: str) -> Iterator[tuple[str, str]]:
    """The path is not repeated: it may hold the token."""
    if url is None:
        return
    parts = urllib.parse.urlsplit(url)
    segments = [segment for segment in parts.path.split("/") if segment]
    ours = sorted(OUR_PATHS.intersection(segments))
    if ours:
        yield (
            f"{label} ends in a path of the daemon's own ({'/'.join(ours)}), so callbacks would not arrive",
            "Leave out what follows the host: the daemon adds /callbacks, the token and the family itself.",
        )
    elif segments:
        yield (
            f"{label} has a path, and the daemon does not know it",
            "Take it out, unless a proxy removes it before the daemon.",
        )
    if parts.scheme == "http" and not is_private(parts.hostname or ""):
        yield (
            f"{label} is plain http at a public address, so the callback token travels unencrypted",
            "Put a proxy with TLS in front of the daemon (deploy/ has examples), and write https://.",
        )


def is_private(host: str) -> bool:
    """Whether only some machines can reach the host of a URL, by its text."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith(tuple(f".{name}" for name in _PRIVATE_NAMES))


def is_hidden(url: str) -> bool:
    """Whether a browser outside cannot open the URL: the host is private, or the scheme is plain http."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme != "https" or is_private(parts.hostname or "")


def _example_tokens(account: Settings, label: str) -> Iterator[tuple[str, str]]:
    if any(_is_example(token) for token in account.callback_token):
        yield f"{label} is a token from an example, which others know too", _MAKE_A_TOKEN


def _of_admin_token(settings: Settings) -> Iterator[Problem]:
    if settings.admin_token is not None and _is_example(settings.admin_token):
        yield _problem("KLING_ADMIN_TOKEN is a token from an example, which others know too", _MAKE_A_TOKEN)


def _is_example(token: SecretStr) -> bool:
    return _EXAMPLE.search(token.get_secret_value()) is not None


def _twins(settings: Settings) -> Iterator[Problem]:
    """Each pair of accounts that are probably one: a copied table."""
    for first, second in itertools.combinations(settings.several, 2):
        key = first.access_key or first.api_key
        same_key = key is not None and key == (second.access_key or second.api_key)
        if same_key and not set(first.families).isdisjoint(second.families):
            yield _problem(
                f"the accounts {first.name!r} and {second.name!r} have the same key and share families: their "
                "results are archived twice, once for each account",
                "Remove one of the tables, or give each its own key or families.",
            )


def accounts_without_links(settings: Settings) -> list[str]:
    """The accounts whose forwards name s3:// URLs, although no setting says so."""
    if settings.forward_links is not None:
        return []
    return [account.name for account in settings.accounts if not _has_links(account)]


def _has_links(account: Settings) -> bool:
    return bool(account.link_secrets()) and account.public_url is not None


def _plain_forwards(settings: Settings) -> Iterator[str]:
    """Forwards with s3:// URLs may be intended, or a worker may lack settings that the other processes have."""
    if settings.forward_url is not None and accounts_without_links(settings):
        yield (
            "KLING_FORWARD_URL is set and there are no links, so forwards name s3:// URLs: set KLING_LINK_SECRET and "
            "KLING_PUBLIC_URL as in your other processes, or KLING_FORWARD_LINKS to s3."
        )


def _forwards(settings: Settings) -> Iterator[Problem]:
    if settings.forward_url is None and settings.forward_secret:
        yield _problem(
            "KLING_FORWARD_SECRET has no effect without KLING_FORWARD_URL", "Set both, or neither."
        )
    for account in settings.accounts:
        if settings.forward_links == "links" and not _has_links(account):
            yield _problem(
                "KLING_FORWARD_LINKS is `links`, but links are not configured: forwards have s3:// URLs",
                "Set KLING_LINK_SECRET and KLING_PUBLIC_URL.",
                account=account.name if settings.several else None,
            )
    if settings.forward_url is None:
        return
    yield from _plain_http("KLING_FORWARD_URL", settings.forward_url, exposed="forwards")


def _plain_http(name: str, url: SecretStr, *, exposed: str) -> Iterator[Problem]:
    parts = urllib.parse.urlsplit(url.get_secret_value())
    if parts.scheme == "http" and not is_private(parts.hostname or ""):
        message = f"{name} is plain http at a public address, so {exposed} travel unencrypted"
        yield _problem(message, "Write https.")


def _links(settings: Settings) -> Iterator[Problem]:
    if not settings.link_secret:
        if settings.link_mode is not None:
            yield _problem("KLING_LINK_MODE has no effect without KLING_LINK_SECRET", "Set both, or neither.")
        return
    if any(_is_example(secret) for secret in settings.link_secret):
        yield _problem(
            "KLING_LINK_SECRET is a secret from an example, which others know too",
            f"Make one of your own: {values.MAKE_A_LINK_SECRET}",
        )
    for account in settings.accounts:
        if account.public_url is None:
            yield _problem(
                f"KLING_LINK_SECRET has no effect without {_label('public_url', account, settings)}",
                "Set both, or neither.",
                account=account.name if settings.several else None,
            )


def _gateway(settings: Settings) -> Iterator[Problem]:
    for account in settings.accounts:
        if any(_is_example(key) for key in account.gateway_key):
            yield _problem(
                f"{_label('gateway_key', account, settings)} is a key from an example, which others know too",
                _MAKE_A_TOKEN,
                account=account.name if settings.several else None,
            )
    if settings.gateway == "on":
        return
    for account in settings.accounts:
        for name, is_set in (
            ("gateway_key", account.gateway_key),
            ("client_api_keys", account.client_api_keys),
        ):
            if is_set:
                yield _problem(
                    f"{_label(name, account, settings)} has no effect while KLING_GATEWAY is off",
                    "Set KLING_GATEWAY to on, or remove the keys.",
                    account=account.name if settings.several else None,
                )


def _alerts(settings: Settings) -> Iterator[Problem]:
    if settings.alert_url is None:
        if settings.alert_secret:
            yield _problem(
                "KLING_ALERT_SECRET has no effect without KLING_ALERT_URL", "Set both, or neither."
            )
        return
    yield from _plain_http("KLING_ALERT_URL", settings.alert_url, exposed="its path and the alerts")


def _rare_sweeps(settings: Settings) -> Iterator[Problem]:
    if settings.sweep_interval_seconds > _SWEEP_SECONDS_MAX:
        yield _problem(
            "KLING_SWEEP_INTERVAL_SECONDS is more than a day, so a task whose callback is lost is found late",
            "Write 300.",
        )


def _prefixes(settings: Settings) -> Iterator[str]:
    """A prefix without a trailing slash is allowed, but rarely intended."""
    for account in settings.accounts:
        prefix = account.s3_prefix
        if prefix and not prefix.endswith("/"):
            yield (
                f"{_label('s3_prefix', account, settings)} does not end with a slash, so keys begin with "
                f"{prefix}images/…: write {prefix}/ to make a folder."
            )
