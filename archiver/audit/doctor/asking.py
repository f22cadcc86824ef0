"""One question over HTTP or HTTPS to a URL that an operator has set. No redirect, a small answer.

Over HTTPS it goes through the proxy that it is given, as boto3 does: often there is no other way out.
"""

import contextlib
import dataclasses
import http.client
import ssl
from collections.abc import Mapping
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from archiver.fetch.proxy import Proxy
from archiver.fetch.urls import Origin
from archiver.version import USER_AGENT

SECONDS_MAX = 5.0
"""The limit of each wait on the network."""
BODY_BYTES_MAX = 64 * 1024


class Unreached(Exception):
    """No answer; the message is for people, and has no URL."""


class Untrusted(Unreached):
    """The certificate is not good."""


@dataclasses.dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    """Its beginning."""
    certificate_ends_at: float | None
    """Unix seconds; None over plain HTTP."""


def ask(
    url: str,
    *,
    method: Literal["GET", "HEAD", "POST"] = "GET",
    body: bytes | None = None,
    trust: ssl.SSLContext | None = None,
    proxy: Proxy | None = None,
) -> HttpAnswer:
    """Ask once. Raises Unreached."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        with contextlib.closing(_connection(parts, proxy, trust)) as connection:
            connection.request(method, target, body=body, headers=headers)
            ends_at = _certificate_end(connection)
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return HttpAnswer(answer.status, names, answer.read(BODY_BYTES_MAX), ends_at)
    except ssl.SSLCertVerificationError as error:
        raise Untrusted(f"its certificate is not good: {error.verify_message}") from error
    except TimeoutError as error:
        raise Unreached(f"no answer within {SECONDS_MAX:g} s") from error
    except OSError as error:
        raise Unreached((error.strerror or str(error)).lower()) from error
    except (http.client.HTTPException, ValueError) as error:
        raise Unreached(f"no answer in HTTP ({type(error).__name__})") from error


def _connection(
    parts: SplitResult, proxy: Proxy | None, trust: ssl.SSLContext | None
) -> http.client.HTTPConnection:
    host, port = parts.hostname or "", parts.port
    if parts.scheme != "https":
        return http.client.HTTPConnection(host, port, timeout=SECONDS_MAX)
    context = trust or ssl.create_default_context()
    if proxy is None or not proxy.serves(Origin(parts.scheme, host, port or 443)):
        return http.client.HTTPSConnection(host, port, timeout=SECONDS_MAX, context=context)
    connection = http.client.HTTPSConnection(
        proxy.origin.host, proxy.origin.port, timeout=SECONDS_MAX, context=context
    )
    login = {} if proxy.authorization is None else {"Proxy-Authorization": proxy.authorization}
    connection.set_tunnel(host, port or 443, login)
    return connection


def _certificate_end(connection: http.client.HTTPConnection) -> float | None:
    if not isinstance(connection.sock, ssl.SSLSocket):
        return None
    certificate = connection.sock.getpeercert() or {}
    end = certificate.get("notAfter")
    return float(ssl.cert_time_to_seconds(end)) if isinstance(end, str) else None
