"""A template → a page, with headers that keep browsers from running or sending anything that is not ours.

Nothing in a page is inline: charts carry their shapes as attributes of SVG. A page's pictures and films may come from
the origins that the page names, and from nowhere else.
"""

import datetime
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import jinja2
import markupsafe
from starlette.responses import HTMLResponse
from starlette.types import Scope

from archiver import phrases
from archiver.version import VERSION
from receiver.console.static_files import StaticFiles

ROOT = "/console"
_ID = re.compile(r"\b([0-9]{12,})\b")
"""A task id in the form that Kling uses."""
NAVIGATION = (("", "Overview"), ("tasks", "Tasks"), ("forwards", "Forwards"), ("accounts", "Accounts"))
"""Path below ROOT, and the link's text."""


class Renderer:
    """Renders templates. Thread-safe."""

    def __init__(self, static: StaticFiles) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("receiver.console"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters.update(
            ago=_ago,
            count="{:,}".format,
            count_of=phrases.count_of,
            distance=phrases.distance,
            exact_time=_exact_time,
            linked=_linked,
            sentence=_sentence,
            span=phrases.span,
            time=_time,
        )
        self._templates.globals.update(
            static=static.path, navigation=NAVIGATION, task_path=task_path, version=VERSION
        )

    def page(
        self,
        template: str,
        *,
        path: str,
        status: int = 200,
        media: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
        **values: Any,
    ) -> HTMLResponse:
        """`path` is the request's, raw; `media` are URLs of pictures and films in the page."""
        root = relative_root(path)

        def url(below: str = "") -> str:
            return f"{root}/{below}" if below else root

        text = self._templates.get_template(template).render(values, url=url, here=path)
        return HTMLResponse(text, status, {**security_headers(media), **(headers or {})})


def task_path(account: str, task_id: str) -> str:
    """The page of a task, below ROOT. An id may have any printable characters, `/` and `?` among them."""
    return f"tasks/{account}/{quote(task_id, safe='')}"


def raw_path(scope: Scope) -> str:
    """The path as the browser sent it: relative links do not begin at an escaped `/`."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return raw.partition(b"?")[0].decode("latin-1")


def relative_root(path: str) -> str:
    """How `/console` is written in a page at the raw `path`: a proxy may serve us below a path that we do not know."""
    return "../" * (path.count("/") - 1) + ROOT.strip("/")


def security_headers(media: Iterable[str] = ()) -> dict[str, str]:
    """The headers of every page."""
    origins = " ".join(["'self'", *sorted({_origin(url) for url in media if "://" in url})])
    policy = (
        f"default-src 'none'; style-src 'self'; script-src 'self'; img-src {origins}; media-src {origins}; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-store",
    }


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _sentence(text: str) -> str:
    """A sentence from a problem or reason, which begins with a small letter and has no full stop."""
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "." if text else text


def _linked(text: str, url: Callable[[str], str], account: str | None) -> markupsafe.Markup:
    """The text with a link for each task id; to a search if the account is not known."""
    pieces = [markupsafe.escape(piece) for piece in _ID.split(text)]
    for place in range(1, len(pieces), 2):
        task_id = str(pieces[place])
        below = task_path(account, task_id) if account else f"tasks?text={task_id}"
        pieces[place] = markupsafe.Markup('<a href="{}">{}</a>').format(url(below), task_id)
    return markupsafe.Markup().join(pieces)


def _ago(milliseconds: int | None, now: int) -> str:
    """`4 minutes ago`, and when that was."""
    return _time_element(milliseconds, lambda known: phrases.distance(known - now))


def _time(milliseconds: int | None) -> str:
    """`2026-11-20 11:38`, in UTC."""
    return _time_element(milliseconds, lambda known: _moment(known).strftime("%Y-%m-%d %H:%M"))


def _exact_time(milliseconds: int) -> str:
    """`2026-11-20 11:38:06`, in UTC."""
    return _time_element(milliseconds, lambda known: _moment(known).strftime("%Y-%m-%d %H:%M:%S"))


def _time_element(milliseconds: int | None, words: Callable[[int], str]) -> str:
    if milliseconds is None:
        return "never"
    exact = _moment(milliseconds).strftime("%Y-%m-%d %H:%M:%S")
    element = markupsafe.Markup('<time datetime="{}Z" title="{} UTC">{}</time>')
    return element.format(exact.replace(" ", "T"), exact, words(milliseconds))


def _moment(milliseconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(milliseconds / 1000, tz=datetime.UTC)
