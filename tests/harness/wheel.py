"""The wheel and the sdist, built from this checkout without an index, and an environment that has the wheel."""

import dataclasses
import os
import pathlib
import subprocess
import sys
import sysconfig
import tarfile

import pytest

from tests.harness.repository import ROOT

EPOCH = "1767225600"
"""SOURCE_DATE_EPOCH: 2026-01-01."""


@dataclasses.dataclass(frozen=True, slots=True)
class Built:
    """What `python -m build` would have made."""

    wheel: pathlib.Path
    sdist: pathlib.Path


def build(source: pathlib.Path, target: pathlib.Path) -> Built:
    """Build both out of `source`, with the locked backend of this environment."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(target)],
        cwd=source,
        check=True,
        capture_output=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH},
    )
    (wheel,) = target.glob("*.whl")
    (sdist,) = target.glob("*.tar.gz")
    return Built(wheel, sdist)


def unpacked(sdist: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """The one folder that is in it."""
    with tarfile.open(sdist) as archive:
        archive.extractall(target, filter="data")
    (folder,) = target.iterdir()
    return folder


@dataclasses.dataclass(frozen=True, slots=True)
class Installed:
    """An environment that has the wheel. The dependencies are those of the tests' own environment."""

    folder: pathlib.Path

    @property
    def programs(self) -> pathlib.Path:
        return self.folder / "bin"

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A program of the environment, in an empty folder and without settings."""
        nowhere = self.folder / "nowhere"
        nowhere.mkdir(exist_ok=True)
        return subprocess.run(
            [str(self.programs / command[0]), *command[1:]],
            cwd=nowhere,
            env={"PATH": os.environ["PATH"], "HOME": str(nowhere)},
            check=False,
            capture_output=True,
            text=True,
        )


def install(wheel: pathlib.Path, target: pathlib.Path) -> Installed:
    """Needs no index: pip unpacks the wheel, and a .pth file lends the dependencies."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(target)], check=True)
    installed = Installed(target)
    python = str(installed.programs / "python")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--quiet",
            "--no-index",
            "--no-deps",
            str(wheel),
        ],
        check=True,
    )
    (packages,) = target.glob("lib/python*/site-packages")
    # Of this folder only its packages: .pth files in it, such as ours that leads to the checkout, are not read.
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (installed.programs / "rclone").symlink_to(pathlib.Path(sys.executable).with_name("rclone"))
    return installed


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Built once a session."""
    return build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Installed once a session."""
    return install(built.wheel, tmp_path_factory.mktemp("installed"))
