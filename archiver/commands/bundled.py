"""Files of the project that are not code: `deploy/`, and the files of the demo.

A wheel has them as `archiver/bundled`, in the same folders as a checkout (pyproject.toml lists them).
"""

import importlib.resources
import pathlib
from typing import Final

_ARCHIVER = importlib.resources.files("archiver")
_BUNDLED = _ARCHIVER / "bundled"
ROOT: Final = pathlib.Path(str(_BUNDLED if _BUNDLED.is_dir() else _ARCHIVER / "..")).resolve()
"""The folder that has `deploy` and `tests`. Installed packages are folders, never a zip file."""
DEPLOY: Final = ROOT / "deploy"
_LEFT_OUT = {"build.lock"}
"""Files that only the building of the image from a checkout needs."""


def deploy_files() -> list[str]:
    """Paths below `deploy/`, with slashes."""
    files = (path for path in DEPLOY.rglob("*") if path.is_file() and path.name not in _LEFT_OUT)
    return sorted(path.relative_to(DEPLOY).as_posix() for path in files if "__pycache__" not in path.parts)
