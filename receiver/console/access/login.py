"""Login and logout."""

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from archiver import log
from receiver.console.access.addresses import ClientAddresses
from receiver.console.access.sessions import SESSION_SECONDS, Session, SessionKind
from receiver.console.access.slowing import Slowing
from receiver.console.frame import COOKIE, Frame, form_of
from receiver.console.rendering import ROOT, raw_path, relative_root

_PAGE = re.compile(r"/console(?:[/?][\x21-\x5b\x5d-\x7e]*)?")
"""Where a login may lead: a page of the console."""
_TARGET_CHARACTERS_MAX = 1024
"""Each character takes up to three bytes of the form."""
_FORM_BYTES_MAX = 4096
_FORM_FIELDS_MAX = 8
"""The form is parsed before the token is checked, so its size must suit the event loop."""
_RETRY_AFTER = "5"
_log = log.get()


class Login:
    """The page, and what its form does."""

    def __init__(
        self,
        frame: Frame,
        token: str,
        *,
        is_https: bool,
        addresses: ClientAddresses,
        slowing: Slowing,
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        """`is_https`: browsers reach us by https, and keep the cookie from plain http."""
        self._frame = frame
        self._token = token.encode()
        self._is_https = is_https
        self._addresses = addresses
        self._slowing = slowing
        self._sleep = sleep

    def routes(self) -> list[Route]:
        return [
            Route("/console/login", self.show, methods=["GET"]),
            Route("/console/login", self.log_in, methods=["POST"]),
            Route("/console/logout", self.log_out, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        session = self._frame.session_of(request)
        target = request.query_params.get("next", "")
        if session is not None and session.is_admin:
            return self._onward(request, target)
        message = "Your session has ended. Log in again." if "ended" in request.query_params else ""
        return self._form(request, session, target=target, message=message)

    async def log_in(self, request: Request) -> Response:
        session, form = self._frame.session_of(request), await _form_of(request)
        target = (form or {}).get("next", "")
        if session is not None and session.is_admin:  # logged in by another tab
            return self._onward(request, target)
        if session is None or form is None or not self._frame.is_ours(form, session):
            message = "Your browser sent no cookie, or an old one: the page is new now, please try again."
            if self._is_https:
                message += " The console works by https only, as KLING_PUBLIC_URL says."
            return self._form(request, None, target=target, message=message, status=403)
        address = self._addresses.of(request.scope)
        if not self._slowing.begin_waiting(address):
            return self._crowded(request, session, target=target, address=address)
        try:
            is_right = await self._is_right(form.get("token", ""), address)
        finally:
            self._slowing.end_waiting(address)
        if not is_right:
            _log.warning("console.refused", address=address)
            message = "This is not the admin token (KLING_ADMIN_TOKEN)."
            return self._form(request, session, target=target, message=message, status=403)
        self._slowing.note_right(address)
        _log.info("console.opened", address=address)
        answer = self._onward(request, target)
        self._set_cookie(answer, self._frame.sessions.begin(SessionKind.ADMIN))
        return answer

    async def log_out(self, request: Request) -> Response:
        session, form = self._frame.session_of(request), await _form_of(request)
        if session is not None and session.is_admin:
            if form is None or not self._frame.is_ours(form, session):
                return self._frame.refused(request, session)
            await self._frame.end_session(session)
        answer = RedirectResponse(f"{relative_root(raw_path(request.scope))}/login", status_code=303)
        answer.set_cookie(
            COOKIE, "", max_age=0, path=None, secure=self._is_https, httponly=True, samesite="strict"
        )
        return answer

    async def _is_right(self, token: str, address: str) -> bool:
        """Whether the token is right. The answer comes after the wait in both cases."""
        seconds = self._slowing.seconds(address)
        self._slowing.note_wrong(address)
        await self._sleep(seconds)
        return hmac.compare_digest(token.strip().encode(errors="replace"), self._token)

    def _crowded(self, request: Request, session: Session, *, target: str, address: str) -> Response:
        """Refuse a try without checking its token: a client that sends a thousand tokens at once learns nothing."""
        if count := self._slowing.note_refused(address):
            _log.warning("console.refused", address=address, count=count, reason="crowded")
        message = "Too many logins from your address wait for an answer. Try again in a moment."
        return self._form(request, session, target=target, message=message, status=429)

    def _form(
        self, request: Request, session: Session | None, *, target: str, message: str, status: int = 200
    ) -> Response:
        session = session or self._frame.sessions.begin(SessionKind.GUEST)
        answer = self._frame.render(
            request,
            "login.html",
            session=session,
            status=status,
            headers={"retry-after": _RETRY_AFTER} if status == 429 else {},
            target=target if _is_page(target) else "",
            message=message,
        )
        self._set_cookie(answer, session)
        return answer

    def _onward(self, request: Request, target: str) -> Response:
        """To the page that was asked for, else the first."""
        parts = urlsplit(target if _is_page(target) else ROOT)
        below = parts.path.removeprefix(ROOT) + (f"?{parts.query}" if parts.query else "")
        place = relative_root(raw_path(request.scope)) + below
        return RedirectResponse(place, status_code=303, headers={"cache-control": "no-store"})

    def _set_cookie(self, answer: Response, session: Session) -> None:
        """Without a path: the browser takes that of the request, `/console`, below whatever a proxy puts before it."""
        answer.set_cookie(
            COOKIE,
            session.cookie,
            max_age=SESSION_SECONDS,
            path=None,
            secure=self._is_https,
            httponly=True,
            samesite="strict",
        )


def _is_page(target: str) -> bool:
    """Whether it stays below the console, also where a browser resolves its dots."""
    segments = target.partition("?")[0].lower().replace("%2e", ".").split("/")
    is_below = "." not in segments and ".." not in segments
    return is_below and len(target) <= _TARGET_CHARACTERS_MAX and _PAGE.fullmatch(target) is not None


async def _form_of(request: Request) -> Mapping[str, str] | None:
    return await form_of(request, bytes_max=_FORM_BYTES_MAX, fields_max=_FORM_FIELDS_MAX)
