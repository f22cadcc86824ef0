"""Which checks there are. Their names are a contract: `doctor --json` prints them."""

import functools
import pathlib
import tempfile
from collections.abc import Iterator

from archiver.audit.doctor import bucket, kling, ledger, machine, outside, settings, versions
from archiver.audit.doctor.finding import SECONDS_MAX, Check, Finding, ok
from archiver.audit.doctor.subject import Subject
from archiver.engine.stages import Account

SETTINGS, LEDGER, MACHINE, KLING, BUCKET, OUTSIDE, VERSIONS = (
    "Settings",
    "Ledger",
    "Machine",
    "Kling",
    "Bucket",
    "Outside",
    "Versions",
)
LEDGER_SECONDS_MAX = BUCKET_SECONDS_MAX = PUBLIC_SECONDS_MAX = 20.0
"""The limit for several looks, one after the other."""
_NO_STORE = "Check KLING_S3_ENDPOINT_URL, and the way to it: name, firewall, proxy."
_NO_API = "Check KLING_BASE_URL, and the way to it: name, firewall, proxy."
_SLOW_DISK = "The disk or the server of the ledger does not answer: look at it first."


def start_checks(subject: Subject) -> list[Check]:
    """What the daemon looks at when it starts. They write nothing."""
    return [
        Check("settings", SETTINGS, "settings", functools.partial(settings.doubts, subject)),
        Check("ledger", LEDGER, "ledger", functools.partial(ledger.usable, subject), late=_SLOW_DISK),
        *_disks(subject),
        *(_api(account) for account in subject.accounts),
        *_listed(subject),
    ]


def all_checks(subject: Subject) -> list[Check]:
    """All checks: those at start, and others that take longer or write a small object. Looks that depend on one another
    are one check."""
    return [
        Check("settings", SETTINGS, "settings", functools.partial(settings.settings, subject)),
        Check(
            "ledger",
            LEDGER,
            "ledger",
            functools.partial(ledger.everything, subject),
            seconds_max=LEDGER_SECONDS_MAX,
            late=_SLOW_DISK,
        ),
        *(_kling(account, subject) for account in subject.accounts),
        *_buckets(subject),
        *_public(subject),
        *(
            Check(_slug(name), OUTSIDE, name, functools.partial(outside.hook, name, url, proxy=subject.proxy))
            for name, url in subject.hooks.items()
        ),
        *_machine(subject),
        Check("python", VERSIONS, "Python", versions.python),
        Check("libraries", VERSIONS, "libraries", versions.libraries),
    ]


def _disks(subject: Subject) -> list[Check]:
    if subject.spool is None:
        return []
    find = functools.partial(machine.disks, subject.spool, subject.ledger_url)
    late = "The disk of KLING_SPOOL_DIR or of the ledger does not answer."
    return [Check("spool", MACHINE, "spool and disks", find, late=late)]


def _machine(subject: Subject) -> Iterator[Check]:
    yield from _disks(subject)
    if subject.spool is not None:
        folder = subject.spool_dir or pathlib.Path(tempfile.gettempdir())
        yield Check(
            "spool_room", MACHINE, "room for the spool", functools.partial(machine.spool_room, folder)
        )
    yield Check("open_files", MACHINE, "limit of open files", machine.open_files)
    yield Check("memory", MACHINE, "memory limit", machine.memory)
    find = functools.partial(machine.proxies, subject.proxy, subject.proxy_variables)
    yield Check("proxy", MACHINE, "proxy", find)


def _api(account: Account) -> Check:
    find = functools.partial(kling.api_and_clock, account)
    return Check("api", KLING, f"API of {account.name}", find, account.name, late=_NO_API)


def _kling(account: Account, subject: Subject) -> Check:
    """The checks of one account's API. They end by themselves, unless a single query hangs."""
    find = functools.partial(kling.everything, account, subject.credentials, subject.ledger_url)
    seconds_max = kling.LISTS_SECONDS_MAX + SECONDS_MAX
    what = f"API of {account.name}"
    return Check("api", KLING, what, find, account.name, seconds_max=seconds_max, late=_NO_API)


def _listed(subject: Subject) -> Iterator[Check]:
    if subject.store is None:
        return
    for account in subject.accounts:
        what = _bucket_of(account, subject)
        find = functools.partial(bucket.listed, subject.store, account.prefix, what=what)
        yield Check("bucket", BUCKET, what, find, account.name, late=_NO_STORE)


def _buckets(subject: Subject) -> Iterator[Check]:
    if subject.store is None:
        return
    if not subject.may_write:
        yield from _listed(subject)
        yield Check("bucket_put", BUCKET, "puts", _not_tried)
        return
    for account in subject.accounts:
        what = _bucket_of(account, subject)
        find = functools.partial(
            bucket.everything,
            subject.store,
            account.prefix,
            what=what,
            bucket=subject.bucket,
            has_links=subject.has_links,
            note=functools.partial(ledger.note_second_put, subject),
            proxy=subject.proxy,
        )
        yield Check("bucket", BUCKET, what, find, account.name, BUCKET_SECONDS_MAX, _NO_STORE)


def _bucket_of(account: Account, subject: Subject) -> str:
    return f"bucket {subject.bucket}" + (f", {account.prefix}" if account.prefix else "")


def _not_tried() -> Iterator[Finding]:
    yield ok("puts and what the store does with them are not tried (--no-writes)")


def _public(subject: Subject) -> Iterator[Check]:
    if not subject.public:
        yield Check("public_url", OUTSIDE, "KLING_PUBLIC_URL", _no_public_url)
    for side in subject.public:
        find = functools.partial(outside.public_side, side)
        yield Check("public_url", OUTSIDE, side.url, find, seconds_max=PUBLIC_SECONDS_MAX)


def _no_public_url() -> Iterator[Finding]:
    yield ok("KLING_PUBLIC_URL is not set: doctor does not check the way from outside to the daemon")


def _slug(setting: str) -> str:
    """`KLING_ALERT_URL` → `alert_url`."""
    return setting.removeprefix("KLING_").lower()
