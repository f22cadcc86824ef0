"""The Pythons of this machine."""

import pathlib
import shutil
import subprocess
from typing import Final

PYTHONS: Final = ("3.11", "3.12", "3.13")
"""Those that the project says it runs on."""


def interpreter(version: str) -> str | None:
    """One of this version: on the PATH, or pyenv's."""
    found = shutil.which(f"python{version}")
    folders = [pathlib.Path.home() / ".pyenv"]
    if found:
        # pyenv's own `python3.12` on the PATH may lead nowhere. It lies beside the versions, whatever HOME is.
        folders.append(pathlib.Path(found).parent.parent)
    installed = [path for folder in folders for path in folder.glob(f"versions/{version}.*/bin/python")]
    for candidate in filter(None, [found, *map(str, installed)]):
        asked = subprocess.run([candidate, "-V"], check=False, capture_output=True, text=True)
        if asked.stdout.startswith(f"Python {version}."):
            return candidate
    return None
