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
