"""A pytest plugin that fails the session if any output contains a secret.

It checks every log line, every captured event (before redaction), every failure's message (the ledger keeps it and
`show` prints it), the output of daemons and commands, every HTTP response of a daemon, and whatever a test prints.
Secrets are registered when they are made, so each text is checked once, when it is written.

It wraps a few methods for the length of the session, because a test could forget to report its own output.
"""

import dataclasses
import functools
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx2
import hypothesis
import pytest
import structlog.testing

from archiver import log
from archiver.config.settings import SETTINGS, Settings, SettingsError
from archiver.failures import Failure
from tests.simulator import KlingSimulator
from tests.simulator.signing import UrlSigner

EXCERPT_CHARACTERS = 80
NAMED_MAX = 30
SECRET_CHARACTERS_MIN = 8
"""Shorter values are arbitrary words in tests."""
AWS_SECRETS = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"})
SECRET_SETTINGS = frozenset(setting.name for setting in SETTINGS if setting.secret) | AWS_SECRETS

_SHAPES = {
    "a token": re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"),
    "a signed query": re.compile(r"[?&](?:Signature|ksSecret|X-Amz-Signature|pkey)=[\w~%+/-]{16,}"),
    "a signing secret": re.compile(r"\bwhsec_[\w+/]{16,}"),
}
"""Texts that look like secrets, registered or not."""
_SIGNATURE = re.compile(r"Signature=([\w~-]+)")
_LINK = re.compile(r"/files/[\w-]{22}/")
"""Any reader of a log could open the file."""
_LONG_WORD = re.compile(r"[\w~-]{32,}")


@dataclasses.dataclass(frozen=True, slots=True)
class Leak:
    """A secret in an output."""

    test: str
    where: str
    secret: str
    """Its name, such as KLING_SECRET_KEY."""
    excerpt: str


class SecretWatch:
    """The secrets of a session, and the leaks. Thread-safe."""

    def __init__(self) -> None:
        self.leaks: list[Leak] = []
        self.heard = 0
        """Number of checked texts."""
        self._secrets: dict[str, str] = {}
        self._signatures: set[str] = set()
        self._doors: set[str] = set()
        self._lock = threading.Lock()

    def secret(self, name: str, value: str) -> None:
        """From now on `value` may not appear, neither plain nor URL-encoded."""
        if len(value) >= SECRET_CHARACTERS_MIN:
            with self._lock:
                self._secrets |= dict.fromkeys((value, quote(value), quote(value, safe="")), name)

    def signature(self, query: str) -> None:
        """From now on the signature in this query may not appear."""
        found = _SIGNATURE.search(query)
        assert found is not None
        with self._lock:
            self._signatures.add(found[1])

    def environment(self, environ: Mapping[str, str]) -> None:
        """Register the secrets among these settings; of a comma list, each."""
        for name in SECRET_SETTINGS & environ.keys():
            for value in environ[name].split(","):
                self.secret(name, value.strip())

    def door(self, url: str) -> None:
        """Check every response from this URL."""
        with self._lock:
            self._doors.add(url)

    def close_door(self, url: str) -> None:
        """The daemon has ended: its port may soon be the simulator's, whose responses carry signed URLs."""
        with self._lock:
            self._doors.discard(url)

    def is_door(self, url: str) -> bool:
        with self._lock:
            return url in self._doors

    def said(self, where: str, text: str) -> None:
        """Check this text."""
        with self._lock:
            self.heard += 1
            for name, excerpt in self._found(text):
                test = os.environ.get("PYTEST_CURRENT_TEST", "between tests")
                self.leaks.append(Leak(test, where, name, excerpt))

    def logged(self, where: str, text: str) -> None:
        """Check this text, in which a link would be one too many as well."""
        self.said(where, text)
        if (link := _LINK.search(text)) is not None:
            test = os.environ.get("PYTEST_CURRENT_TEST", "between tests")
            with self._lock:
                self.leaks.append(Leak(test, where, "a link", link[0]))

    def _found(self, text: str) -> Iterator[tuple[str, str]]:
        for value, name in self._secrets.items():
            place = text.find(value)
            if place >= 0:
                yield name, text[max(0, place - EXCERPT_CHARACTERS) : place + len(value)]
        for word in self._signatures.intersection(_LONG_WORD.findall(text)):
            yield "a signature", word
        for name, shape in _SHAPES.items():
            if match := shape.search(text):
                yield name, text[max(0, match.start() - EXCERPT_CHARACTERS) : match.end()]


WATCH = SecretWatch()
"""Of this session."""


# --- listening ------------------------------------------------------------------------------------------------------


def _before(patch: pytest.MonkeyPatch, owner: type, method: str, hear: Callable[..., None]) -> None:
    """Call `hear` with the arguments before each call of the method."""
    original = getattr(owner, method)

    @functools.wraps(original)
    def listened(*arguments: Any, **named: Any) -> Any:
        hear(*arguments)
        return original(*arguments, **named)

    patch.setattr(owner, method, listened)


def _after(patch: pytest.MonkeyPatch, owner: type, method: str, hear: Callable[..., None]) -> None:
    """Call `hear` with result and arguments after each call of the method."""
    original = getattr(owner, method)

    @functools.wraps(original)
    def listened(*arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        hear(result, *arguments, **named)
        return result

    patch.setattr(owner, method, listened)


def _hear_line(_: object, line: str) -> None:
    WATCH.logged("log line", line)


def _hear_event(_: object, __: object, ___: str, event: Mapping[str, object]) -> None:
    WATCH.logged("captured event", str(event))


def _hear_failure(_: object, failure: Exception, *__: object, **___: object) -> None:
    WATCH.said(f"message of {type(failure).__name__}", str(failure))


def _hear_answer(response: httpx2.Response, *_: object, stream: bool = False, **__: object) -> None:
    if not stream and WATCH.is_door(f"{response.url.scheme}://{response.url.netloc.decode()}"):
        headers = httpx2.Headers(response.headers)
        if response.url.path.startswith("/files/"):
            headers.pop("location", None)  # what a link leads to is a signed URL
        WATCH.said(f"answer of {response.url.path}", f"{headers}\n{response.text}")


def _hear_account(_: object, account: KlingSimulator, *__: object, **___: object) -> None:
    for name in ("access_key", "secret_key", "api_key"):
        WATCH.secret(f"{name} of a simulated account", getattr(account, name))


def _hear_signature(query: str, *_: object, **__: object) -> None:
    WATCH.signature(query)


def _wrap_settings(patch: pytest.MonkeyPatch) -> None:
    """Register the secrets of all settings that this process loads."""
    original = Settings.load.__func__  # type: ignore[attr-defined]  # a class method has one

    def listened(cls: type[Settings], /, environ: Mapping[str, str], **named: Any) -> Settings:
        # Hypothesis makes settings from words in our sources, which may appear anywhere.
        if not hypothesis.currently_in_test_context():
            WATCH.environment(environ)
        return original(cls, environ, **named)  # type: ignore[no-any-return]  # as the original

    patch.setattr(Settings, "load", classmethod(listened))


def pytest_configure(config: pytest.Config) -> None:
    """Begin to listen."""
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    for level in ("msg", "debug", "info", "warning", "error", "critical"):
        _before(patch, log._Sink, level, _hear_line)  # noqa: SLF001 -- every line passes here
    _before(patch, structlog.testing.LogCapture, "__call__", _hear_event)
    _wrap_settings(patch)
    _after(patch, KlingSimulator, "__init__", _hear_account)
    _after(patch, UrlSigner, "query", _hear_signature)
    _after(patch, Failure, "__init__", _hear_failure)
    _after(patch, SettingsError, "__init__", _hear_failure)
    _after(patch, httpx2.Client, "send", _hear_answer)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Check what a test printed or logged."""
    for title, text in report.sections:
        WATCH.said(title, text)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:  # noqa: ARG001 -- the hook's signature
    """Add the results of a pytest-xdist process that has ended."""
    heard = getattr(node, "workeroutput", {})
    WATCH.heard += heard.get("heard", 0)
    WATCH.leaks += [Leak(*leak) for leak in heard.get("leaks", ())]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A leak fails the session even if all tests pass."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output.update(heard=WATCH.heard, leaks=[dataclasses.astuple(leak) for leak in WATCH.leaks])
        return
    if WATCH.leaks and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The number of checked texts, and each leak once."""
    terminalreporter.line(f"secrets: {WATCH.heard} texts heard, {len(WATCH.leaks)} leaks")
    if not WATCH.leaks:
        return
    terminalreporter.section("secrets that were said", red=True)
    first = {(leak.test, leak.where, leak.secret): leak for leak in reversed(WATCH.leaks)}
    for leak in list(first.values())[-NAMED_MAX:]:
        terminalreporter.line(f"{leak.test}\n  {leak.secret} in {leak.where}: …{leak.excerpt!r}")
