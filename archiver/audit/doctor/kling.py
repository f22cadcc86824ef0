"""Kling's API as each account meets it: credentials, clock, and the list of every configured family."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set

from archiver.audit.doctor.finding import Finding, Verdict, failed, named, ok, warning
from archiver.engine.api_clocks import ApiClocks
from archiver.engine.looks.look import ApiLook
from archiver.engine.stages import Account
from archiver.failures import ApiForbidden, ApiRateLimited, Failure, NotOffered
from archiver.families import FAMILIES, TASKS, collection_of, swept
from archiver.kling.limiter import Priority
from archiver.kling.new_standard_calls import ask_window
from archiver.ledger import Ledger, LedgerMissing, LedgerUnusable, unix_ms
from archiver.model import DAY_MS
from archiver.phrases import listing
from archiver.sweep.unswept import UnsweptFamilies, known_to, unswept

PAGE_ROWS = 1
LISTS_SECONDS_MAX = 40.0
"""From the beginning; then no further list is asked for. An API may take a second for each of 25."""
_NO_LIST = (
    "Its callbacks still work, but the sweep finds nothing. Check its name in KLING_FAMILIES, or use a base URL that "
    "offers lists."
)
_SLOW = (
    "The API answers slowly, or KLING_QUERY_RATE_PER_SECOND lets few questions through. The sweep has the time to look "
    "at all: `kling-archiver status` says when it last did."
)
_UNREAD = (
    "The API fails to show them, answers slowly or refuses more queries, or KLING_QUERY_RATE_PER_SECOND lets few "
    "through. A running daemon reads these lists once a day, and has the time to try again."
)
UNREAD_NAMED_MAX = 3


def everything(account: Account, kinds: Mapping[str, str], ledger_url: str) -> Iterator[Finding]:
    """If the API does not answer at all, no list is requested: it would fail for the same reason."""
    ends_at = time.monotonic() + LISTS_SECONDS_MAX
    yield from named("credentials", credentials(account, kinds))
    found = list(api_and_clock(account))
    yield from found
    if any(finding.verdict is Verdict.FAILED and not finding.check for finding in found):
        return
    families = list(dict.fromkeys(account.families))
    for looked_at, family in enumerate(families):
        if time.monotonic() >= ends_at:
            message = f"API of {account.name}: {looked_at} of {len(families)} lists were looked at in time"
            yield warning(message, _SLOW, check="list")
            return
        yield from named("list", family_list(account, family))
    yield from named("tasks", tasks(account))
    yield from named("families", not_swept(account, ledger_url, ends_at=ends_at))


def api_and_clock(account: Account) -> Iterator[Finding]:
    """The look at start, and the time in the API's answer."""
    what = f"API of {account.name}"
    try:
        ApiLook(account.client, account.families).look()
    except Failure as error:
        yield failed(f"{what}: {error}", error.what_to_do)
    else:
        yield ok(what)
    yield from _clock(account)


def _clock(account: Account) -> Iterator[Finding]:
    client = account.client
    if client.answered_at is None:
        return
    clocks = ApiClocks({account.name: client}, 0, now=unix_ms)
    for _, skew_ms in clocks.skewed():
        message = f"this machine's clock differs from the API's by {abs(skew_ms) / 1000:.0f} s"
        yield failed(message, "Set this machine's clock by NTP.", check="clock")
        return
    if client.skew_ms is None:
        message = f"the API of {account.name} sends no Date: nothing checks this machine's clock"
        yield warning(message, "Keep this machine's clock right by NTP.", check="clock")
        return
    yield ok("clock", check="clock")


def credentials(account: Account, kinds: Mapping[str, str]) -> Iterator[Finding]:
    """The kind of credentials, and the families that can be swept with them."""
    families = swept(account.families, has_api_key=account.client.has_api_key)
    others = "follows tasks of other families only by callbacks, registrations and the gateway"
    has_all = set(account.families).issuperset(FAMILIES)
    yield ok(
        f"asks with {kinds.get(account.name, 'credentials')}; sweeps {', '.join(families) or 'nothing'}"
        + ("" if has_all else f"; {others} (KLING_FAMILIES)")
    )


def family_list(account: Account, family: str) -> Iterator[Finding]:
    """One page of one row, as the sweep reads it."""
    collection = collection_of(family)
    if collection is not None and not account.client.has_api_key:
        yield warning(
            f"{family}: only an API Key can list it", "Set KLING_API_KEY, or take it out of KLING_FAMILIES."
        )
        return
    try:
        if collection is None:
            account.client.list_page(family, page=1, size=PAGE_ROWS, priority=Priority.VERIFY)
        else:
            _window(account, collection)
    except NotOffered as error:
        yield warning(f"{family}: {error}", _NO_LIST)
    except ApiForbidden as error:
        yield warning(f"{family}: {error}", error.what_to_do)
    except ApiRateLimited as error:
        yield warning(
            f"{family}: {error}", "The API limits the rate of queries: run doctor again in a minute."
        )
    except Failure as error:
        yield failed(f"{family}: {error}", error.what_to_do)
    else:
        yield ok(f"list of {family}")


def not_swept(account: Account, ledger_url: str, *, ends_at: float) -> Iterator[Finding]:
    """The look of a running daemon at lists that KLING_FAMILIES leaves out.

    A list that the API does not offer, or not to this account, is not reported: the settings do not ask for it.
    """
    others = unswept(account.families, ignored=account.ignored_families)
    try:
        with _known(ledger_url, account.name) as known:
            families = UnsweptFamilies(
                account.name, others, client=account.client, known=known, priority=Priority.VERIFY
            )
            unread = families.look(ends_at=ends_at)
    except (LedgerUnusable, Failure):  # the checks of the ledger say why
        return
    problems = families.problems()
    yield from (warning(problem.message, problem.what_to_do) for problem in problems)
    if unread:
        message = (
            f"API of {account.name}: {len(unread)} of {len(others)} lists that no sweep reads were not read"
        )
        named_lists = listing(unread[:UNREAD_NAMED_MAX], count=len(unread))
        yield warning(f"{message}: {named_lists}", _UNREAD)
    elif others and not problems:
        yield ok(f"no unknown task with results in {len(others)} families that KLING_FAMILIES leaves out")


@contextlib.contextmanager
def _known(ledger_url: str, account: str) -> Iterator[Callable[[Sequence[str]], Set[str]]]:
    """What the ledger knows: nothing before a daemon has made it. Raises LedgerUnusable, Failure."""
    try:
        ledger = Ledger.open(ledger_url, daemon=False)
    except LedgerMissing:
        yield lambda _: frozenset()
        return
    with contextlib.closing(ledger):
        yield known_to(ledger, account=account)


def tasks(account: Account) -> Iterator[Finding]:
    """`/tasks`, which knows every task of the new standard, and only API Keys open."""
    if not account.client.has_api_key:
        yield Finding(Verdict.OK, f"/{TASKS} is not asked: it needs an API Key")
        return
    try:
        _window(account, TASKS)
    except Failure as error:
        what_to_do = (
            error.what_to_do or "Tasks are then asked for by their own paths, which costs more questions."
        )
        yield warning(f"/{TASKS}: {error}", what_to_do)
    else:
        yield ok(f"/{TASKS} answers the API Key")


def _window(account: Account, collection: str) -> None:
    now = unix_ms()
    ask_window(
        account.client,
        collection,
        start=now - DAY_MS,
        end=now,
        cursor="",
        priority=Priority.VERIFY,
        rows_max=PAGE_ROWS,
    )
