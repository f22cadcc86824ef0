"""A pytest plugin that reads the machine's certificates once a session. Each client of HTTP reads them when it is made,
for 25 ms of CPU, and nearly every test makes some; all speak plain HTTP to servers of the test."""

import functools
import os
import ssl
from collections.abc import Iterator

import httpcore2
import pytest

_read = httpcore2.default_ssl_context
_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@functools.cache
def _read_once(trust_env: bool, _environment: tuple[str | None, ...]) -> ssl.SSLContext:
    return _read(_trust_env=trust_env)


def _default_context(*, _trust_env: bool = True) -> ssl.SSLContext:
    return _read_once(_trust_env, tuple(os.environ.get(name) for name in _VARIABLES))


@pytest.fixture(scope="session", autouse=True)
def _certificates_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpcore2, "default_ssl_context", _default_context)
        yield
