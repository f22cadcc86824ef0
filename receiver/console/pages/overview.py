"""`/console`: what `status` says, at a glance."""

from starlette.responses import Response
from starlette.routing import Route

from archiver.ledger import StatusView
from archiver.model import State
from archiver.problems import look, verdict
from receiver.console.frame import Frame, Visit
from receiver.console.parts import ConsoleParts


class Overview:
    def __init__(self, parts: ConsoleParts) -> None:
        self._parts = parts

    def routes(self, frame: Frame) -> list[Route]:
        return [frame.page("/console", self.show)]

    def show(self, visit: Visit) -> Response:
        view, problems = look(self._parts.ledger, self._parts.expected)
        if view is None:
            return visit.render(
                "overview_blind.html", verdict=verdict(problems), problems=problems, status=503
            )
        return visit.render(
            "overview.html",
            view=view,
            verdict=verdict(problems),
            problems=problems,
            states=_states(view),
            several=self._parts.several,
        )


def _states(view: StatusView) -> list[tuple[State, int]]:
    return [(state, view.states[state]) for state in State]
