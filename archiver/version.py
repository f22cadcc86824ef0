"""Which version this is, and how it introduces itself to servers."""

import importlib.metadata


def _installed() -> str:
    try:
        return importlib.metadata.version("kling-archiver")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"  # run from a folder that nobody installed


VERSION = _installed()
USER_AGENT = f"kling-archiver/{VERSION}"
