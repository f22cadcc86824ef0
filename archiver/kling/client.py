"""The Kling API as we use it: query one task, read one list page, ask a collection of the new standard, create one
task.

Two rules:

1. An answer counts only if it is about the task that was asked for. Everything else is a failure out of
   `failures.py`, never an exception of the HTTP client.
2. Our keys go into one header and nowhere else: not into a `repr`, not into a message, not through a
   redirect (none is followed), and what the API says is cleaned of them before it is repeated.

Queries take no slots and change nothing upstream, so a crash at any point here costs one question asked
again. A create costs money, so it is sent once, and what is not known to have been refused may have happened. What
an answer means is decided in `responses.py` and `families.py`, without I/O.
"""

import contextlib
import dataclasses
import email.utils
import http.cookiejar
import ipaddress
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Self
from urllib.parse import quote, urlencode, urlsplit

import httpx2

from archiver import failures, model
from archiver.kling import responses, results
from archiver.kling.credentials import ApiKey, Bearer, Credential, secrets_of
from archiver.kling.limiter import Priority, RateLimiter
from archiver.kling.pages import PAGE_ROWS, Page, read_page, task_asked_for
from archiver.kling.responses import ApiResponse
from archiver.model import Task
from archiver.redaction import Redaction
from archiver.version import USER_AGENT

MESSAGE_CHARACTERS_MAX = 200
IDENTIFIER_CHARACTERS_MAX = 1024
MIB = 1024 * 1024

_NOBODY_ANSWERED = (
    failures.ApiTimeout,
    failures.ApiUnreachable,
    failures.ApiServerError,
    failures.ApiAnswerUnreadable,
)
"""Failures that say of the service, and not of the question, that it is not well."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Question:
    endpoint: str
    """The metric's label."""
    target: str
    """Path and query below the base URL, encoded."""
    family: str
    by_id: bool
    body: Mapping[str, object] | None = None
    """Sent as JSON, by POST; None: a GET."""

    def __str__(self) -> str:
        if self.endpoint == "create":
            return f"a request to create a task of {self.family}"
        if self.endpoint == "tasks" and not self.by_id:
            return f"a question at /{self.family.partition('/')[0]}"
        return f"a question for {'one task' if self.by_id else 'a list page'} of {self.family}"


_REFUSED = (
    failures.ApiRateLimited,
    failures.ApiPolicyTriggered,
    failures.ApiContentRefused,
    failures.ApiCredentialsRefused,
    failures.ApiTokenRefused,
    failures.ApiAccountAbnormal,
    failures.ApiAccountInArrears,
    failures.ApiPackUsedUp,
    failures.ApiForbidden,
    failures.ApiAddressNotAllowed,
    failures.ApiRequestInvalid,
    failures.ApiBadParameter,
    failures.ApiModelMissing,
    failures.ApiNotReached,
)
"""After these a create has created nothing: the API said no by a code or a 4xx of its own, or was never reached."""


class _TimeLeft:
    """The seconds until the next byte must come: at most `idle_seconds`, and none past the whole deadline.

    The HTTP client reads a timeout once for a whole answer and applies it to each read, so a server that drips
    a byte now and then would hold a thread for ever, in the headers even more than in the body. It passes the
    value on to `socket.settimeout`, which takes anything that is an integer; this one says the time that is
    left whenever it is asked. Whole seconds, rounded up.
    """

    def __init__(self, *, idle_seconds: float, answer_seconds: float, monotonic: Callable[[], float]) -> None:
        self._idle_seconds = idle_seconds
        self._monotonic = monotonic
        self._ends_at = monotonic() + answer_seconds

    def __index__(self) -> int:
        left = self._ends_at - self._monotonic()
        if left <= 0:
            raise TimeoutError("The answer as a whole took too long.")
        return math.ceil(min(left, self._idle_seconds))


def _ignore(_endpoint: str, _code: str) -> None:
    """Observes nothing."""


class KlingClient:
    """Questions to one account's API; safe for any number of threads.

    `base_url` may carry a path. `observe(endpoint, code)` is called once for each request, with the labels of
    `kling_api_requests_total`. Every method waits for `limiter` first and lets its `Stopped` through; all
    other trouble is a `Failure`.
    """

    def __init__(
        self,
        base_url: str,
        credential: Credential,
        limiter: RateLimiter,
        *,
        observe: Callable[[str, str], None] = _ignore,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        transport: httpx2.BaseTransport | None = None,
        connect_seconds: float = 5.0,
        read_seconds: float = 15.0,
        answer_seconds: float = 30.0,
        create_seconds: float = 120.0,
        body_bytes_max: int = 64 * MIB,
        secrets: Iterable[str] = (),
    ) -> None:
        """`secrets` are not ours to send, but might be repeated by an API that was sent a callback URL."""
        self._base_url = base_url.rstrip("/")
        self._host = urlsplit(base_url).hostname or ""
        self._has_api_key = isinstance(credential, ApiKey)
        self._bearer = Bearer(credential, now=now)
        self._redaction = Redaction([*secrets_of(credential), *secrets])
        self._limiter = limiter
        self._observe = observe
        self._now = now
        self._monotonic = monotonic
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        self._answer_seconds = answer_seconds
        self._create_seconds = create_seconds
        self._body_bytes_max = body_bytes_max
        self._http = httpx2.Client(
            transport=transport,
            trust_env=not _is_loopback(self._host),
            headers={"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "gzip"},
            cookies=http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
        )
        self.skew_ms: int | None = None
        """The API's clock minus ours at its last answer, in ms; None before the first one. The smallest
        difference that explains that answer: 0 wherever its time, which has whole seconds, may be ours."""
        self.skew_measured_at: float | None = None
        """When that was, in Unix seconds by our clock."""

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ahead_ms(self) -> int:
        """By how much the API's clock is ahead of ours, in ms; 0 where it is not, or has not been heard."""
        return max(0, self.skew_ms or 0)

    @property
    def behind_ms(self) -> int:
        """By how much the API's clock is behind ours, in ms; 0 where it is not, or has not been heard."""
        return max(0, -(self.skew_ms or 0))

    def create(self, family: str, body: Mapping[str, object]) -> Task:
        """Create a task of a `/v1` family; what the API says of it at once: its id and status, no results yet.

        Give `body` an `external_task_id`: by it a task can be found whose answer was lost.

        Raises `CreateOutcomeUnknown` if the task may exist. After every other failure it does not.
        """
        question = _Question("create", f"/v1/{quote(family)}", family, by_id=False, body=body)
        try:
            rows = responses.rows_of(self._ask(question, priority=Priority.VERIFY))
            if not rows:
                raise failures.ApiAnswerUnreadable(f"The API answered {question} without naming the task.")
            return results.read_task(responses.sound(rows[0]), family=family)
        except _REFUSED:
            raise
        except failures.Failure as error:
            raise failures.CreateOutcomeUnknown(str(error)) from None

    def query(self, family: str, identifier: str, *, priority: Priority) -> Task:
        """The task of this id or external id, asked for under its family's own path.

        An id may be asked for by its external id: compare `task_id` before recording. `tasks/…` and
        `solutions/…` take ids only, and need an API Key.

        Raises `TaskNotFound` when the API says that it does not know the id under this path (which includes a
        wrong family), `ApiAnswerUnreadable` when the answer is about another task.
        """
        answer = self._ask(self._question(family, identifier), priority=priority)
        return task_asked_for(responses.rows_of(answer), family=family, identifier=identifier)

    def list_page(self, family: str, *, page: int, size: int = PAGE_ROWS, priority: Priority) -> Page:
        """Page `page` (from 1) of a `/v1` family; past the end it has no rows.

        A row that cannot be read is skipped and counted; it never fails the page.
        """
        target = f"/v1/{quote(family)}?pageNum={page}&pageSize={size}"
        answer = self._ask(_Question("list", target, family, by_id=False), priority=priority)
        return read_page(responses.rows_of(answer), family=family)

    @property
    def has_api_key(self) -> bool:
        """Whether the paths of the new standard may be asked."""
        return self._has_api_key

    def collection(
        self,
        name: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        priority: Priority,
    ) -> ApiResponse:
        """What `/tasks` or `/solutions` (`name`) answers: GET with `query`, or POST with `body`, which creates nothing.

        Raises NeedsApiKey before anything is sent, NotOffered where a gateway has no such path, other Failures.
        """
        if not self._has_api_key:
            raise failures.NeedsApiKey(f"/{name} answers to an API Key only.")
        target = f"/{name}" if query is None else f"/{name}?{urlencode(query, safe=',')}"
        question = _Question("tasks", target, f"{name}/all", by_id=False, body=body)
        return self._ask(question, priority=priority)

    def _question(self, family: str, identifier: str) -> _Question:
        collection = family.partition("/")[0]
        if collection not in ("tasks", "solutions"):
            target = f"/v1/{quote(family)}/{_segment(identifier)}"
            return _Question("query", target, family, by_id=True)
        if not self._has_api_key:
            raise failures.NeedsApiKey(f"Tasks of {family} can be read with an API Key only.")
        if not model.TASK_ID.fullmatch(identifier):
            raise failures.ApiRequestInvalid(f"Tasks of {family} are asked for by their own id.")
        return _Question("tasks", f"/{collection}?task_ids={identifier}", family, by_id=True)

    def _ask(self, question: _Question, *, priority: Priority) -> ApiResponse:
        """One request, and a second one with a fresh token where the first token was refused as such."""
        bearer = self._bearer.current()
        try:
            return self._ask_once(question, bearer=bearer, priority=priority)
        except failures.ApiTokenRefused:
            if not self._bearer.drop(bearer):
                raise
        return self._ask_once(question, bearer=self._bearer.current(), priority=priority)

    def _ask_once(self, question: _Question, *, bearer: str, priority: Priority) -> ApiResponse:
        self._limiter.acquire(priority)
        try:
            answer = self._answer(question, bearer=bearer)
        except _NOBODY_ANSWERED:
            self._limiter.unanswered()
            raise
        except failures.Failure:
            self._limiter.answered()
            raise
        self._limiter.answered()
        return answer

    def _answer(self, question: _Question, *, bearer: str) -> ApiResponse:
        with self._failures_of(question):
            status, body = self._fetch(question, bearer=bearer)
        try:
            answer = responses.read_answer(body)
        except failures.ApiAnswerUnreadable as error:
            self._observe(question.endpoint, f"http_{status}")
            raise self._refusal(question, status=status, said=str(error)) from None
        self._observe(question.endpoint, _label(answer.code, status=status))
        if answer.code == 0 and 200 <= status < 300:
            return answer
        raise self._refusal(question, status=status, answer=answer)

    def _refusal(
        self, question: _Question, *, status: int, answer: ApiResponse | None = None, said: str = ""
    ) -> failures.Failure:
        code = answer.code if answer else None
        named = f"HTTP {status}" if code is None else f"code {_label(code, status=status)}, HTTP {status}"
        words = self._clean(answer.message if answer else said) or "nothing more was said"
        if status in (404, 405) and question.endpoint in ("list", "tasks"):
            return failures.NotOffered(f"The API has no answer for {question}: {named}")
        refusal = responses.failure(
            status=status,
            code=code,
            message=f"The API answered {question} with {named}: {words}{_request_id(answer)}",
            family=question.family,
            by_id=question.by_id,
        )
        if question.endpoint == "create":
            # Whatever code stands in a 5xx, somebody on the way has failed, and may have failed too late.
            return failures.CreateOutcomeUnknown(str(refusal)) if status >= 500 else refusal
        if isinstance(refusal, failures.ApiRateLimited):
            self._limiter.halve()
        return refusal

    def _fetch(self, question: _Question, *, bearer: str) -> tuple[int, bytes]:
        """(HTTP status, body) of one request."""
        sent_at = self._now()
        is_create = question.endpoint == "create"
        with self._http.stream(
            "GET" if question.body is None else "POST",
            self._base_url + question.target,
            json=question.body,
            headers={"Authorization": f"Bearer {bearer}"},
            extensions={"timeout": self._create_timeouts() if is_create else self._timeouts()},
        ) as response:
            received_at = self._now()
            skew_ms = _skew_ms(response.headers.get("date"), sent_at=sent_at, received_at=received_at)
            if skew_ms is not None:
                self.skew_ms, self.skew_measured_at = skew_ms, received_at
            return response.status_code, self._body(question, response)

    def _timeouts(self) -> dict[str, object]:
        left = _TimeLeft(
            idle_seconds=self._read_seconds, answer_seconds=self._answer_seconds, monotonic=self._monotonic
        )
        connect = self._connect_seconds
        return {"connect": connect, "pool": self._answer_seconds, "write": connect, "read": left}

    def _create_timeouts(self) -> dict[str, object]:
        """A create may carry ten megabytes of image, which the API looks at before its first byte; and giving up on
        one costs more than waiting."""
        left = _TimeLeft(
            idle_seconds=self._create_seconds, answer_seconds=self._create_seconds, monotonic=self._monotonic
        )
        connect = self._connect_seconds
        return {"connect": connect, "pool": connect, "write": self._read_seconds, "read": left}

    def _body(self, question: _Question, response: httpx2.Response) -> bytes:
        body = bytearray()
        try:
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > self._body_bytes_max:
                    break
        except httpx2.DecodingError:
            raise self._unreadable(question, response, "a broken compressed body") from None
        if len(body) > self._body_bytes_max:
            raise self._unreadable(question, response, f"more than {self._body_bytes_max} bytes")
        return bytes(body)

    def _unreadable(
        self, question: _Question, response: httpx2.Response, what: str
    ) -> failures.ApiAnswerUnreadable:
        self._observe(question.endpoint, f"http_{response.status_code}")
        return failures.ApiAnswerUnreadable(f"The API answered {question} with {what}.")

    @contextlib.contextmanager
    def _failures_of(self, question: _Question) -> Iterator[None]:
        """The client's exceptions as ours. They are not chained: they hold the request with its header."""
        try:
            yield
        except (httpx2.ConnectTimeout, httpx2.PoolTimeout):
            self._observe(question.endpoint, "timeout")
            raise failures.ApiNotReached(f"{self._host} let nobody connect for {question} in time.") from None
        except httpx2.ConnectError as error:
            self._observe(question.endpoint, "connection")
            cause = self._clean(f"{type(error).__name__}: {error}")
            raise failures.ApiNotReached(f"{self._host} cannot be reached for {question}: {cause}") from None
        except httpx2.TimeoutException:
            self._observe(question.endpoint, "timeout")
            raise failures.ApiTimeout(f"{self._host} did not answer {question} in time.") from None
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            self._observe(question.endpoint, "connection")
            cause = self._clean(f"{type(error).__name__}: {error}")
            raise failures.ApiUnreachable(f"{self._host} gave no answer to {question}: {cause}") from None

    def _clean(self, words: str) -> str:
        """Words from outside on one line, without our keys and without anybody's signed URLs."""
        # The limit only bounds the work: cut before cleaning, half a key could survive at the end.
        cleaned = self._redaction.text(model.text(words, limit=20 * MESSAGE_CHARACTERS_MAX))
        return " ".join(cleaned.split())[:MESSAGE_CHARACTERS_MAX]


def _is_loopback(host: str) -> bool:
    """A proxy of the environment must not stand between us and our own machine."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _segment(identifier: str) -> str:
    """An id, or an external id that anybody may have chosen, as one path segment."""
    try:
        segment = quote(identifier, safe="")
    except UnicodeEncodeError:
        segment = ""
    # Empty would ask for the list; dots are resolved by whoever sees them first.
    if segment in ("", ".", "..") or len(identifier) > IDENTIFIER_CHARACTERS_MAX:
        raise failures.ApiRequestInvalid("An id that cannot be asked for: empty, dots only, or too long.")
    return segment


def _label(code: int, *, status: int) -> str:
    """Codes are four digits; a stranger's number must not become a metric of its own."""
    return str(code) if 0 <= code <= 9999 else f"http_{status}"


def _request_id(answer: ApiResponse | None) -> str:
    """Kling's support asks for it."""
    known = answer is not None and re.fullmatch(r"[A-Za-z0-9-]{1,64}", answer.request_id)
    return f" (request {answer.request_id})" if known and answer else ""


def _skew_ms(date: str | None, *, sent_at: float, received_at: float) -> int | None:
    """The server wrote its time, cut to seconds, somewhere between our sending (Unix seconds) and receiving:
    that bounds the difference on both sides, and the smallest one within is taken."""
    try:
        server_ms = email.utils.parsedate_to_datetime(date or "").timestamp() * 1000
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    least = server_ms - received_at * 1000
    most = server_ms + 999 - sent_at * 1000
    return round(max(least, min(most, 0.0)))
