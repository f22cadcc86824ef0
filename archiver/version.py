"""The version, and the User-Agent."""

import importlib.metadata


def _installed() -> str:
    try:
        return importlib.metadata.version("kling-archiver")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"  # run from a folder, not installed


VERSION = _installed()
USER_AGENT = f"kling-archiver/{VERSION}"
