"""The ledger: whether it can be used, is sound, and what it says of the daemons."""

import contextlib
from collections.abc import Iterator, Sequence

from archiver.audit.doctor.finding import Finding, Verdict, failed, named, ok, warning
from archiver.audit.doctor.subject import Subject
from archiver.failures import Failure, LedgerMalformed
from archiver.ledger import DaemonView, Ledger, LedgerAltered, LedgerMissing, LedgerUnusable
from archiver.ledger.databases.checkup import ServerFacts, facts_of_server, integrity_of_file
from archiver.ledger.databases.opening import is_postgres, perishable_file, require_usable
from archiver.ledger.databases.protocol import PROCESS_CONNECTIONS_MAX, Disk
from archiver.model import Problem
from archiver.phrases import span
from archiver.problems import look
from archiver.store import ConditionalPut
from archiver.version import VERSION

INTEGRITY_SECONDS = 7.0
"""How long the file is read; shorter than a check may last."""
CONNECTIONS_FREE_MIN = PROCESS_CONNECTIONS_MAX + 3
"""Connections that one more process and a few commands need."""
CLOCKS_APART_MS_MAX = 60_000


def everything(subject: Subject) -> Iterator[Finding]:
    """All checks of the ledger; those of its contents only if it can be used."""
    found = list(usable(subject))
    yield from found
    if all(finding.verdict is not Verdict.FAILED for finding in found):
        yield from named("ledger_integrity", integrity(subject))
        yield from schema_and_daemons(subject)


def usable(subject: Subject) -> Iterator[Finding]:
    """Whether a daemon could use it or make it. Creates nothing."""
    url = subject.ledger_url
    try:
        ledger = require_usable(url)
        if ledger.exists:
            Ledger.require_fit(url)
    except LedgerAltered as error:
        yield failed(error.said, error.what_to_do, check="ledger_schema")
    except LedgerUnusable as error:
        yield Finding(Verdict.FAILED, str(error))
    except Failure as error:
        yield failed(str(error), error.what_to_do)
    else:
        yield ok(f"ledger {ledger.name}" + ("" if ledger.exists else ", which the daemon will make"))
    if perishable := perishable_file(url):
        what_to_do = "Mount a volume at its folder (KLING_LEDGER_URL)."
        yield warning(f"the ledger {perishable} will vanish with this container", what_to_do)


def schema_and_daemons(subject: Subject) -> Iterator[Finding]:
    """Whether this version can use the ledger, and the daemons and problems in it."""
    try:
        ledger = Ledger.open(subject.ledger_url, daemon=False)
    except LedgerMissing:
        yield ok("the daemon will make the ledger at its first start", check="ledger_schema")
        return
    with contextlib.closing(ledger):
        yield ok(f"schema as this version ({VERSION}) knows it", check="ledger_schema")
        if subject.expected is None:
            return
        view, problems = look(ledger, subject.expected)
    if view is not None:
        yield from _disk(view.disk, problems)
        for daemon in view.alive_daemons:
            yield _daemon(daemon, now=view.now)
    said = {doubt.message for doubt in subject.doubts}
    yield from _problems([problem for problem in problems if problem.message not in said])


def _disk(disk: Disk | None, problems: Sequence[Problem]) -> Iterator[Finding]:
    """The ledger's disk. A full one is among the problems already."""
    if disk is not None and not any(problem.code == "disk_low" for problem in problems):
        free = f"{disk.free_bytes // 1_000_000} of {disk.total_bytes // 1_000_000} MB are free"
        yield ok(f"ledger's disk: {free}", check="ledger_disk")


def _daemon(daemon: DaemonView, *, now: int) -> Finding:
    serves = ", ".join(daemon.serves)
    said = (
        f"{daemon.name} ({serves}), version {daemon.version}, seen {span(max(0, now - daemon.seen_at))} ago"
    )
    if daemon.version == VERSION:
        return ok(said, check="daemon")
    what_to_do = "Install the same version everywhere, and restart the daemons."
    return warning(f"{said}; this command is version {VERSION}", what_to_do, check="daemon")


def _problems(problems: Sequence[Problem]) -> Iterator[Finding]:
    for problem in problems:
        verdict = Verdict.FAILED if problem.code == "door_closed" else Verdict.WARNING
        message = f"{problem.code}: {problem.message}"
        yield Finding(verdict, message, problem.what_to_do, "status", problem.account)
    if not problems:
        yield ok("`status --check` finds no problem", check="status")


def integrity(subject: Subject) -> Iterator[Finding]:
    """SQLite: the file is read through. PostgreSQL: what the server says of itself."""
    if is_postgres(subject.ledger_url):
        yield from judge_server(facts_of_server(subject.ledger_url))
        return
    try:
        found = integrity_of_file(subject.ledger_url, seconds_max=INTEGRITY_SECONDS)
    except LedgerMissing:
        return
    size = f"{found.bytes / 1_000_000:.1f} MB"
    if found.damages:
        yield failed(
            f"the ledger {found.path} is damaged: {'; '.join(found.damages)}", LedgerMalformed.what_to_do
        )
    elif found.is_whole:
        yield ok(f"quick check: no damage in {size}")
    else:
        whole = f"For a whole check: sqlite3 {found.path} 'PRAGMA quick_check'."
        yield Finding(Verdict.OK, f"quick check: no damage found in {INTEGRITY_SECONDS:g} s ({size})", whole)


def judge_server(facts: ServerFacts) -> Iterator[Finding]:
    """One row for everything that is right, and one for each thing that is wrong."""
    yield ok(f"PostgreSQL {facts.version}, {facts.connections} of {facts.connections_max} connections in use")
    if facts.is_standby or facts.is_read_only:
        kind = "is a standby" if facts.is_standby else "begins transactions that only read"
        yield failed(
            f"the server {kind}: nothing can be committed",
            "Name the primary in KLING_LEDGER_URL (or several hosts and target_session_attrs=read-write).",
        )
    if not facts.syncs:
        yield failed(
            "fsync is off: a crash of the server's machine damages the ledger",
            "Set fsync = on in postgresql.conf, and reload.",
        )
    if not facts.writes_full_pages:
        yield warning(
            "full_page_writes is off: a power cut may damage the ledger",
            "Set full_page_writes = on in postgresql.conf, unless the file system never tears a page.",
        )
    if facts.has_synchronous_standby and facts.synchronous_commit in {"off", "local"}:
        yield warning(
            f"synchronous_commit is {facts.synchronous_commit}, so a failover loses the latest callbacks",
            "Set synchronous_commit = on for this user or database.",
        )
    if facts.connections_max - facts.connections < CONNECTIONS_FREE_MIN:
        yield warning(
            f"{facts.connections} of {facts.connections_max} connections are in use, and a process takes up to "
            f"{PROCESS_CONNECTIONS_MAX}",
            "Raise max_connections, or put a pooler before the server (KLING_LEDGER_LISTEN_URL past it).",
        )
    if abs(facts.ahead_ms) > CLOCKS_APART_MS_MAX:
        side = "ahead of" if facts.ahead_ms > 0 else "behind"
        yield warning(
            f"the server's clock is {span(abs(facts.ahead_ms))} {side} this machine's; the ledger goes by the server's",
            "Set both clocks by NTP.",
        )


def note_second_put(subject: Subject, outcome: ConditionalPut) -> None:
    """Record for the workers what the store does. If the ledger does not exist or is unavailable, a worker will find
    out by itself."""
    if subject.store is None:
        return
    with (
        contextlib.suppress(LedgerUnusable, Failure),
        contextlib.closing(Ledger.open(subject.ledger_url, daemon=False)) as ledger,
    ):
        ledger.trust.note_second_put(subject.store.location, outcome)
