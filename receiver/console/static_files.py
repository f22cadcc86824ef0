"""Style, script and icon: read once, and kept by browsers until they change."""

import hashlib
import importlib.resources
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_HEADERS = {"cache-control": "public, max-age=31536000, immutable", "x-content-type-options": "nosniff"}
_VERSION_LENGTH = 12


class StaticFiles:
    """Serves the files from memory, without login: the login page needs them too."""

    def __init__(self) -> None:
        folder = importlib.resources.files("receiver.console") / "static"
        self._contents: Mapping[str, bytes] = {entry.name: entry.read_bytes() for entry in folder.iterdir()}
        self._versions = {
            name: hashlib.sha256(content).hexdigest()[:_VERSION_LENGTH]
            for name, content in self._contents.items()
        }

    def path(self, name: str) -> str:
        """The file's path below `/console/`, which changes with its contents."""
        return f"static/{self._versions[name]}/{name}"

    def routes(self) -> list[Route]:
        return [Route("/console/static/{version}/{name}", self._send)]

    async def _send(self, request: Request) -> Response:
        name, version = request.path_params["name"], request.path_params["version"]
        if self._versions.get(name) != version:
            return Response("There is nothing here.", 404, {"cache-control": "no-store"}, "text/plain")
        return Response(self._contents[name], 200, _HEADERS, _TYPES[name.rpartition(".")[2]])
