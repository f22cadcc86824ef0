"""The client of the Kling API: it queries one task, a list page or a collection of the new standard, and creates tasks.

1. Only an answer about the requested task counts. Everything else is a failure of `failures`.
2. Keys go into one header only, never into a `repr`, a message or a redirect (none is followed). They are removed from
   what the API says.
3. A query changes nothing upstream, so a crash costs one repeated request. A create costs money: it is sent once.
   Unless the API has refused it, it may have succeeded.
"""

import contextlib
import http.cookiejar
import ipaddress
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Self
from urllib.parse import urlsplit

import httpx2

from archiver import failures, model
from archiver.clock import TimeLeft
from archiver.kling import responses, results
from archiver.kling.credentials import ApiKey, Bearer, Credential, secrets_of
from archiver.kling.limiter import Priority, RateLimiter
from archiver.kling.pages import PAGE_ROWS, Page, read_page, task_asked_for
from archiver.kling.questions import Question
from archiver.kling.responses import ApiResponse
from archiver.kling.timing import skew_ms
from archiver.model import Task
from archiver.redaction import Redaction
from archiver.version import USER_AGENT

MESSAGE_CHARACTERS_MAX = 200
MIB = 1024 * 1024

_SERVICE_FAILURES = (
    failures.ApiTimeout,
    failures.ApiUnreachable,
    failures.ApiServerError,
    failures.ApiAnswerUnreadable,
)
"""Codes by which the service says that it is unwell, whatever the request was."""


CREATED_NOTHING = (
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
"""Failures after which a create has certainly created nothing: the API refused it by a code or a 4xx, or was not
reached."""


def _ignore(_endpoint: str, _code: str) -> None:
    pass


_PLAIN_HTTP = "The port of KLING_BASE_URL does not speak https: try http://, or its port for https."


class KlingClient:
    """The API of one account; thread-safe.

    `observe(endpoint, code)` is called once for each request, with the labels of `kling_api_requests_total`. Every
    method waits for `limiter` and passes on its `Stopped`; every other error is a `Failure`.
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
        """`secrets` are removed from messages: an API that got a callback URL may repeat its token."""
        self._base_url = base_url.rstrip("/")
        self._host = urlsplit(base_url).hostname or ""
        self._has_api_key = isinstance(credential, ApiKey)
        self._bearer = Bearer(credential, now=now)
        self._redaction = Redaction([*secrets_of(credential), *secrets])
        self.limiter = limiter
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
            trust_env=not is_loopback(self._host),
            headers={"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "gzip"},
            cookies=http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
        )
        self.skew_ms: int | None = None
        """The API's clock minus ours at its last answer, in ms: the smallest difference that explains the answer."""
        self.skew_measured_at: float | None = None
        """When `skew_ms` was measured: Unix seconds by our clock."""
        self.answered_well_at: dict[str, float] = {}
        """Family → when its own path last showed a task, or said as documented that it does not know one. Unix seconds
        by our clock."""
        self.shown_last: tuple[str, str] | None = None
        """Family and id of the last task that the API has shown."""
        self.answered_at: float | None = None
        """When the API last answered at all: Unix seconds by our clock."""
        self.undated_answers = 0
        """How many answers of Kling's own form have had no `Date` since the last one that had. Error pages of a proxy
        do not count."""

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ahead_ms(self) -> int:
        """How far the API's clock is ahead of ours, in ms; 0 if not, or unknown."""
        return max(0, self.skew_ms or 0)

    @property
    def behind_ms(self) -> int:
        """How far the API's clock is behind ours, in ms; 0 if not, or unknown."""
        return max(0, -(self.skew_ms or 0))

    def create(self, family: str, body: Mapping[str, object]) -> Task:
        """Create a task of a `/v1` family; the answer has no results yet.

        Give `body` an `external_task_id`: it finds the task should the answer be lost. Raises `CreateOutcomeUnknown` if
        the task may exist; after every other failure it does not.
        """
        question = Question.create(family, body)
        try:
            rows = responses.rows_of(self._ask(question, priority=Priority.VERIFY))
            if not rows:
                raise failures.ApiAnswerUnreadable(f"The API answered {question} without naming the task.")
            return results.read_task(responses.sound(rows[0]), family=family)
        except CREATED_NOTHING:
            raise
        except failures.Failure as error:
            raise failures.CreateOutcomeUnknown(str(error)) from None

    def query(self, family: str, identifier: str, *, priority: Priority) -> Task:
        """The task with this id, or external id, from its family's own path.

        Compare `task_id` before recording: the id may be another task's external id. `tasks/…` and `solutions/…` take
        ids only, and need an API Key.

        Raises `TaskNotFound` when this path does not know the id, perhaps in a wrong family, `TaskNotShown` when it
        seems so, and `ApiAnswerUnreadable` when the answer is about another task.
        """
        question = Question.task(family, identifier, has_api_key=self._has_api_key)
        try:
            answer = self._ask(question, priority=priority)
            task = task_asked_for(responses.rows_of(answer), family=family, identifier=identifier)
        except failures.TaskNotFound:
            self.answered_well_at[family] = self._now()
            raise
        self._showed(task)
        return task

    def list_page(self, family: str, *, page: int, size: int = PAGE_ROWS, priority: Priority) -> Page:
        """Page `page` (from 1) of a `/v1` family. A row that cannot be read is skipped and counted."""
        answer = self._ask(Question.list_page(family, page=page, size=size), priority=priority)
        read = read_page(responses.rows_of(answer), family=family)
        if read.tasks:
            self._showed(read.tasks[0])
        return read

    def _showed(self, task: Task) -> None:
        self.answered_well_at[task.family] = self._now()
        self.shown_last = task.family, task.task_id

    @property
    def has_api_key(self) -> bool:
        """Whether `/tasks` and `/solutions` may be asked."""
        return self._has_api_key

    def collection(
        self,
        name: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        priority: Priority,
    ) -> ApiResponse:
        """The answer of `/tasks` or `/solutions`: GET with `query`, or POST with `body`, which creates nothing.

        Raises NeedsApiKey, NotOffered where a gateway has no such path, other Failures.
        """
        if not self._has_api_key:
            raise failures.NeedsApiKey(f"/{name} answers to an API Key only.")
        question = Question.collection(name, query=query, body=body)
        answer = self._ask(question, priority=priority)
        self.answered_well_at[question.family] = self._now()
        return answer

    def _ask(self, question: Question, *, priority: Priority) -> ApiResponse:
        """One request, and a second with a fresh token where the API refused the first."""
        bearer = self._bearer.current()
        try:
            return self._ask_once(question, bearer=bearer, priority=priority)
        except failures.ApiTokenRefused:
            if not self._bearer.drop(bearer):
                raise
        return self._ask_once(question, bearer=self._bearer.current(), priority=priority)

    def _ask_once(self, question: Question, *, bearer: str, priority: Priority) -> ApiResponse:
        self.limiter.acquire(priority)
        try:
            answer = self._answer(question, bearer=bearer)
        except _SERVICE_FAILURES:
            self.limiter.unanswered()
            raise
        except failures.Failure:
            self.limiter.answered()
            raise
        self.limiter.answered()
        return answer

    def _answer(self, question: Question, *, bearer: str) -> ApiResponse:
        with self._failures_of(question):
            status, body, is_dated = self._fetch(question, bearer=bearer)
        try:
            answer = responses.read_answer(body)
        except failures.ApiEnvelopeMissing as error:
            self._observe(question.endpoint, f"http_{status}")
            raise self._refusal(question, status=status, said=str(error)) from None
        self.undated_answers += not is_dated
        self._observe(question.endpoint, _label(answer.code, status=status))
        if answer.code == 0 and 200 <= status < 300:
            return answer
        raise self._refusal(question, status=status, answer=answer)

    def _refusal(
        self, question: Question, *, status: int, answer: ApiResponse | None = None, said: str = ""
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
            # On a 5xx the task may have been created before the failure, whatever the code.
            return failures.CreateOutcomeUnknown(str(refusal)) if status >= 500 else refusal
        if isinstance(refusal, failures.ApiRateLimited):
            self.limiter.halve()
        return refusal

    def _fetch(self, question: Question, *, bearer: str) -> tuple[int, bytes, bool]:
        """Send the request; HTTP status, body, and whether the answer had a `Date`."""
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
            date, age = response.headers.get("date"), response.headers.get("age")
            skew = skew_ms(date, sent_at=sent_at, received_at=received_at, age=age)
            self.answered_at = received_at
            if skew is not None:
                self.skew_ms, self.skew_measured_at, self.undated_answers = skew, received_at, 0
            return response.status_code, self._body(question, response), skew is not None

    def _timeouts(self) -> dict[str, object]:
        left = TimeLeft(
            idle_seconds=self._read_seconds, answer_seconds=self._answer_seconds, monotonic=self._monotonic
        )
        connect = self._connect_seconds
        return {"connect": connect, "pool": self._answer_seconds, "write": connect, "read": left}

    def _create_timeouts(self) -> dict[str, object]:
        """The API looks at up to thirty megabytes of image before it answers, and giving up costs more than waiting."""
        left = TimeLeft(
            idle_seconds=self._create_seconds, answer_seconds=self._create_seconds, monotonic=self._monotonic
        )
        connect = self._connect_seconds
        return {"connect": connect, "pool": connect, "write": self._read_seconds, "read": left}

    def _body(self, question: Question, response: httpx2.Response) -> bytes:
        body = bytearray()
        try:
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > self._body_bytes_max:
                    break
        except httpx2.DecodingError:
            raise self._unreadable(question, response, "a broken compressed body") from None
        if len(body) > self._body_bytes_max:
            self._observe(question.endpoint, f"http_{response.status_code}")
            raise failures.ApiAnswerTooLarge(
                f"The API answered {question} with more than {self._body_bytes_max} bytes."
            )
        return bytes(body)

    def _unreadable(
        self, question: Question, response: httpx2.Response, what: str
    ) -> failures.ApiEnvelopeMissing:
        self._observe(question.endpoint, f"http_{response.status_code}")
        return failures.ApiEnvelopeMissing(f"The API answered {question} with {what}.")

    @contextlib.contextmanager
    def _failures_of(self, question: Question) -> Iterator[None]:
        """Exceptions of the HTTP client → failures. Not chained: they hold the request with its header."""
        try:
            yield
        except (httpx2.ConnectTimeout, httpx2.PoolTimeout):
            self._observe(question.endpoint, "timeout")
            raise failures.ApiNotReached(
                f"{self._host} accepted no connection for {question} in time."
            ) from None
        except httpx2.ConnectError as error:
            self._observe(question.endpoint, "connection")
            cause = self._clean(f"{type(error).__name__}: {error}")
            message = f"{self._host} cannot be reached for {question}: {cause}"
            what_to_do = _PLAIN_HTTP if "WRONG_VERSION_NUMBER" in cause else None
            raise failures.ApiNotReached(message, what_to_do=what_to_do) from None
        except httpx2.TimeoutException:
            self._observe(question.endpoint, "timeout")
            raise failures.ApiTimeout(f"{self._host} did not answer {question} in time.") from None
        except (
            httpx2.TransportError,
            httpx2.InvalidURL,
            UnicodeError,
        ) as error:  # a broken host name raises the last
            self._observe(question.endpoint, "connection")
            cause = self._clean(f"{type(error).__name__}: {error}")
            raise failures.ApiUnreachable(f"{self._host} gave no answer to {question}: {cause}") from None

    def _clean(self, words: str) -> str:
        """Text from outside, on one line, without keys and signed URLs."""
        # The limit bounds the work only: a shorter cut before cleaning could leave half a key at the end.
        cleaned = self._redaction.text(model.text(words, limit=20 * MESSAGE_CHARACTERS_MAX))
        return " ".join(cleaned.split())[:MESSAGE_CHARACTERS_MAX]


def is_loopback(host: str) -> bool:
    """Requests to this machine must not go through a proxy of the environment."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _label(code: int, *, status: int) -> str:
    """Codes have four digits; any other number must not become a metric of its own."""
    return str(code) if 0 <= code <= 9999 else f"http_{status}"


def _request_id(answer: ApiResponse | None) -> str:
    """The request's id, for the message: Kling's support asks for it."""
    known = answer is not None and re.fullmatch(r"[A-Za-z0-9-]{1,64}", answer.request_id)
    return f" (request {answer.request_id})" if known and answer else ""
