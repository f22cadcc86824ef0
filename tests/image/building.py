"""The Dockerfile, built by buildah without a network and without an image from a registry."""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tests.harness.repository import ROOT

BASE = "localhost/debian-python"
IMAGE = "localhost/kling-archiver"
PACKAGES = "python3,python3-venv,passwd"
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
LOCKS = ("requirements.lock", "deploy/build.lock")
PIP_CONFIG = "[global]\nno-index = true\nfind-links = /wheels\n"
"""In the container, in place of an index: the build is the same on a machine without a network."""


class Builder:
    """Its folder keeps base, wheels and layers, so that a second build takes a third of the time."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        (folder / "wheels").mkdir(parents=True, exist_ok=True)
        storage = ["--storage-driver", "vfs", "--root", f"{folder}/storage", "--runroot", f"{folder}/run"]
        self._buildah = ["buildah", *storage]

    @property
    def rootfs(self) -> pathlib.Path:
        """The files of the base, which `make_base` makes."""
        return self._folder / "base.tar"

    def make_base(self) -> str:
        """The name of an image of Debian's own packages, of this machine's release."""
        rootfs = self.rootfs
        if not rootfs.exists():
            options = [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
            unfinished = rootfs.with_suffix(".unfinished.tar")
            _run(
                [
                    "mmdebstrap",
                    "--variant=apt",
                    f"--include={PACKAGES}",
                    *options,
                    _release(),
                    str(unfinished),
                ]
            )
            unfinished.rename(rootfs)
        recipe = self._folder / "base.Dockerfile"
        recipe.write_text("FROM scratch\nADD base.tar /\n")
        _run(
            [
                *self._buildah,
                "bud",
                "--quiet",
                "--isolation=chroot",
                "--layers",
                "-t",
                BASE,
                "-f",
                str(recipe),
                str(self._folder),
            ]
        )
        return BASE

    def fetch_wheels(self) -> None:
        """What the locks name, from this machine's index or pip's cache, by hash."""
        for lock in LOCKS:
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--require-hashes",
                "--only-binary=:all:",
            ]
            _run([*command, "--dest", f"{self._folder}/wheels", "--requirement", str(ROOT / lock)])

    def build(self, base: str) -> None:
        """The Dockerfile as it is. The volumes are not in the image."""
        config = self._folder / "pip.conf"
        config.write_text(PIP_CONFIG)
        volumes = [f"--volume={self._folder}/wheels:/wheels:ro", f"--volume={config}:/etc/pip.conf:ro"]
        # In Docker's format: OCI's has no HEALTHCHECK.
        options = ["--quiet", "--isolation=chroot", "--format=docker", f"--build-arg=PYTHON_IMAGE={base}"]
        _run([*self._buildah, "bud", *options, *volumes, "-t", IMAGE, str(ROOT)])

    def mount(self) -> tuple[pathlib.Path, Mapping[str, Any]]:
        """The image's files and its configuration."""
        container = _run([*self._buildah, "from", IMAGE]).strip()
        config = json.loads(_run([*self._buildah, "inspect", "--type=image", IMAGE]))["Docker"]["config"]
        return pathlib.Path(_run([*self._buildah, "mount", container]).strip()), config

    def export(self) -> pathlib.Path:
        """The image as a file that `docker load` reads."""
        file = self._folder / "image.tar"
        file.unlink(missing_ok=True)
        _run([*self._buildah, "push", "--quiet", IMAGE, f"docker-archive:{file}:kling-archiver:latest"])
        return file

    def unmount(self) -> None:
        """Remove what `mount` made."""
        _run([*self._buildah, "rm", "--all"])


def _release() -> str:
    lines = pathlib.Path("/etc/os-release").read_text().splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("VERSION_CODENAME="))


def _run(command: Sequence[str]) -> str:
    """Its output; its errors go to the screen. Raises CalledProcessError."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ)
    return done.stdout
