"""Programs that tests run and that are not everywhere: where one is missing, its tests skip and say what to install."""

import os
import shutil

import pytest

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])


def program(name: str) -> str:
    """Its path, or its name where it is missing."""
    return shutil.which(name, path=_PATH) or name


def needs(name: str, *, package: str | None = None) -> pytest.MarkDecorator:
    """Skips a test where the program is missing; `package` is Debian's, if it is called otherwise."""
    return pytest.mark.skipif(
        shutil.which(name, path=_PATH) is None, reason=f"{name} is missing: apt-get install {package or name}"
    )
