"""Compose itself, where it is installed: what it makes of a file."""

import pathlib
import re
import shutil
import subprocess
from typing import Any

from tests.harness import documents
from tests.harness.deployment import DEPLOY
from tests.harness.programs import program

PLUGIN, STANDALONE = ("docker", "compose"), ("docker-compose",)


class Refused(Exception):
    """Compose does not take the file, and says why."""


def command() -> list[str]:
    """Compose 2, or Debian's docker-compose, which is 1.29; empty where neither is here."""
    for words in (PLUGIN, STANDALONE):
        found = [program(words[0]), *words[1:]]
        if shutil.which(found[0]) and _succeeds([*found, "version"]):
            return found
    return []


def lay(file: str, folder: pathlib.Path, settings: str) -> None:
    """The file, and `settings` as kling.env beside it."""
    text = (DEPLOY / file).read_text()
    if command()[-1].endswith("docker-compose"):
        # 1.29 reads the Compose Specification as it was before a file could name its project.
        text = re.sub(r"^name: .*\n", "", text, flags=re.MULTILINE)
    (folder / file).write_text(text)
    (folder / "kling.env").write_text(settings)


def resolved(file: str, folder: pathlib.Path) -> dict[str, Any]:
    """Every service as Compose would start it, the gateway too. Raises `Refused`."""
    options = ["-p", "kling-archiver", "--env-file", "kling.env", "-f", file, "--profile", "gateway"]
    done = subprocess.run(
        [*command(), *options, "config"], cwd=folder, check=False, capture_output=True, text=True
    )
    if done.returncode or done.stderr:
        raise Refused(done.stderr)
    [found] = documents.parse_all(done.stdout)
    services = found["services"]
    assert isinstance(services, dict)
    return services


def _succeeds(words: list[str]) -> bool:
    return subprocess.run(words, capture_output=True, check=False).returncode == 0
