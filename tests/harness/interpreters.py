"""The Pythons of this machine."""

import pathlib
import shutil
import subprocess
from typing import Final

PYTHONS: Final = ("3.11", "3.12", "3.13")
"""Those that the project says it runs on."""


def interpreter(version: str) -> str | None:
    """One of this version: on the PATH, or pyenv's."""
    installed = pathlib.Path.home().glob(f".pyenv/versions/{version}.*/bin/python")
    for candidate in filter(None, [shutil.which(f"python{version}"), *map(str, installed)]):
        # pyenv's own `python3.12` on the PATH may lead nowhere.
        asked = subprocess.run([candidate, "-V"], check=False, capture_output=True, text=True)
        if asked.stdout.startswith(f"Python {version}."):
            return candidate
    return None
