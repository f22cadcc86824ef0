"""The frame of every page: only an admin sees it, each action needs its CSRF token, and it runs in a thread with a time
limit.

A page, and the template it renders, run in the thread: the event loop, which takes callbacks, does neither.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import markupsafe
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from archiver import log
from archiver.failures import LedgerUnavailable
from archiver.ledger.ended_sessions import EndedSessions
from receiver.console.access.sessions import Session, Sessions
from receiver.console.readings import Readings, TooSlow
from receiver.console.rendering import Renderer, raw_path, relative_root
from receiver.server.bodies import BodyProblem, announced_bytes, read_body

COOKIE = "kling_console"
CSRF_FIELD = "csrf"
FORM_BYTES_MAX = 64 * 1024
FORM_SECONDS_MAX = 10.0
FORM_FIELDS_MAX = 1000
_log = log.get()
_CSRF_INPUT = markupsafe.Markup('<input type="hidden" name="{}" value="{}">')


@dataclasses.dataclass(frozen=True, slots=True)
class Visit:
    """An admin's request for a page."""

    request: Request
    session: Session
    form: Mapping[str, str]
    """The form of a POST; a field that was sent twice has its last value."""
    _frame: "Frame"

    @property
    def path(self) -> str:
        return raw_path(self.request.scope)

    @property
    def named(self) -> Mapping[str, str]:
        """The names in the path."""
        return {name: str(value) for name, value in self.request.path_params.items()}

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query_params

    def render(
        self, template: str, *, status: int = 200, media: Iterable[str] = (), **values: Any
    ) -> Response:
        """`media` are the URLs of pictures and films in the page: it may load them, and no others."""
        return self._frame.render(
            self.request, template, status=status, media=media, session=self.session, **values
        )

    def redirect(self, below: str, **query: object) -> Response:
        """Redirect to a page below `/console` after an action. `query` holds numbers and words, no secrets."""
        root = relative_root(self.path)
        place = f"{root}/{below}" if below else root
        return RedirectResponse(f"{place}?{urlencode(query)}" if query else place, status_code=303)

    def not_found(self, message: str = "There is nothing here.") -> Response:
        return self._frame.failed(self.request, 404, "Not found", message, session=self.session)


class Frame:
    """Makes routes of pages."""

    def __init__(
        self,
        sessions: Sessions,
        renderer: Renderer,
        readings: Readings,
        *,
        ended: EndedSessions,
    ) -> None:
        """`ended` are sessions that were logged out, including those of other processes."""
        self.sessions = sessions
        self._ended = ended
        self._renderer = renderer
        self._readings = readings

    def page(self, path: str, show: Callable[[Visit], Response]) -> Route:
        """A page that changes nothing. `show` runs in a thread and may raise a `LedgerUnavailable`."""

        async def answer(request: Request) -> Response:
            session = self.session_of(request)
            if session is None or not session.is_admin:
                return self._to_login(request)
            return await self._answer(request, show, Visit(request, session, {}, self), is_lost=False)

        return Route(path, answer, methods=["GET"])

    def action(self, path: str, do: Callable[[Visit], Response]) -> Route:
        """A form's POST. `do` runs in a thread and redirects to the page that shows the result."""

        async def answer(request: Request) -> Response:
            session = self.session_of(request)
            if session is None or not session.is_admin:
                return self._to_login(request, is_lost=True)
            form = await form_of(request)
            if form is None or not self.is_ours(form, session):
                return self.refused(request, session)
            return await self._answer(request, do, Visit(request, session, form, self), is_lost=True)

        return Route(path, answer, methods=["POST"])

    def session_of(self, request: Request) -> Session | None:
        return self.sessions.read(request.cookies.get(COOKIE))

    def is_ours(self, form: Mapping[str, str], session: Session) -> bool:
        """Whether the form comes from one of our pages in this browser."""
        return self.sessions.is_csrf_token(form.get(CSRF_FIELD, ""), session)

    def render(
        self,
        request: Request,
        template: str,
        *,
        session: Session | None = None,
        status: int = 200,
        media: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
        **values: Any,
    ) -> Response:
        token = "" if session is None else self.sessions.csrf_token(session)
        return self._renderer.page(
            template,
            path=raw_path(request.scope),
            status=status,
            media=media,
            headers=headers,
            csrf_field=lambda: _CSRF_INPUT.format(CSRF_FIELD, token),
            is_admin=session is not None and session.is_admin,
            **values,
        )

    def failed(
        self,
        request: Request,
        status: int,
        title: str,
        message: str,
        *,
        session: Session | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """A page that says what is wrong."""
        return self.render(
            request,
            "failed.html",
            session=session,
            status=status,
            headers=headers,
            title=title,
            message=message,
        )

    def refused(self, request: Request, session: Session | None) -> Response:
        """Refuse an action that none of our pages in this browser has sent. After a login or a logout in another tab
        this happens too."""
        message = (
            "Nothing was done: the form is not of this session. Go back, load the page again and repeat it."
        )
        return self.failed(request, 403, "Not done", message, session=session)

    async def end_session(self, session: Session) -> None:
        """End the session, in this process at once. If the ledger cannot be written, a copied cookie opens pages of
        other processes until it expires."""
        self.sessions.end(session)
        end = functools.partial(self._ended.end, session.digest, expires_at=session.expires_at * 1000)
        try:
            await self._readings.run(end)
        except (LedgerUnavailable, TooSlow) as error:
            _log.warning("ledger.unavailable", message=f"a logout is known to this process only: {error}")

    async def _answer(
        self, request: Request, run: Callable[[Visit], Response], visit: Visit, *, is_lost: bool
    ) -> Response:
        answer = await self._run(request, run, visit)
        if answer is not None:
            return answer
        self.sessions.end(visit.session)  # else the login page would send the browser back
        return self._to_login(request, is_lost=is_lost)

    async def _run(self, request: Request, run: Callable[[Visit], Response], visit: Visit) -> Response | None:
        """Run a page; None if another process has ended the session."""

        def run_unless_ended() -> Response | None:
            return None if self._ended.has(visit.session.digest) else run(visit)

        try:
            return await self._readings.run(run_unless_ended)
        except LedgerUnavailable as error:
            message = f"The ledger cannot be used now: {error}. {error.what_to_do}"
        except TooSlow:
            message = "The ledger has not answered in time. What you asked for may still be done: look again."
        headers = {"retry-after": "5"}
        return self.failed(request, 503, "Not now", message, session=visit.session, headers=headers)

    def _to_login(self, request: Request, *, is_lost: bool = False) -> Response:
        """Redirect to the login. `is_lost`: the action was not done, because the session has ended meanwhile."""
        path, query = raw_path(request.scope), request.scope["query_string"].decode("latin-1")
        wanted = {} if is_lost else {"next": f"{path}?{query}" if query else path}
        place = f"{relative_root(path)}/login?{urlencode(wanted or {'ended': 1})}"
        return RedirectResponse(place, status_code=303, headers={"cache-control": "no-store"})


async def form_of(
    request: Request, *, bytes_max: int = FORM_BYTES_MAX, fields_max: int = FORM_FIELDS_MAX
) -> Mapping[str, str] | None:
    """The fields of a form; None if the body is not a form, or is too large."""
    if (
        request.headers.get("content-type", "").partition(";")[0].strip()
        != "application/x-www-form-urlencoded"
    ):
        return None
    if announced_bytes(request.headers.raw) > bytes_max:
        return None
    body = await read_body(request.receive, bytes_max=bytes_max, seconds_max=FORM_SECONDS_MAX)
    if isinstance(body, BodyProblem):
        return None
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=fields_max)
    except ValueError:
        return None
    return dict(fields)
