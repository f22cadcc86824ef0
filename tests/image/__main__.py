"""`python -m tests.image`, which is `make image`. Exit status: 0 all right, 1 something is wrong, 2 cannot be tried."""

import argparse
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

from archiver.phrases import count_of
from tests.harness.repository import ROOT
from tests.image import composed, composed_postgres, engine
from tests.image.building import Builder
from tests.image.container import Container
from tests.image.images import bring_images
from tests.s3_servers.process import free_port

FOLDER = ROOT / ".image"
NEEDED = ("buildah", "mmdebstrap", "unshare", "nsenter", "setpriv")
BUILD_TOOLS = ("gcc", "cc", "g++", "make", "ld")
NOWHERE = "http://127.0.0.1:9"
SETTINGS = {
    "KLING_ACCESS_KEY": "an-access-key",
    "KLING_SECRET_KEY": "a-secret-key-of-nobody",
    "KLING_BASE_URL": NOWHERE,
    "KLING_CALLBACK_TOKEN": "a-token-of-nobody-at-all",
    "KLING_S3_BUCKET": "results",
    "KLING_S3_ENDPOINT_URL": NOWHERE,
    "KLING_DRAIN_SECONDS": "0",
    "KLING_HOST": "127.0.0.1",
}
"""Neither account nor bucket is reached: the door opens all the same."""
VANISHES = b"The ledger will vanish with this container"
"""What the daemon says of a ledger that lies on no volume."""


def main() -> int:
    options = _options()
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        reason = f"install {' '.join(missing)}" if missing else "run it as root"
        sys.stderr.write(f"make image: cannot be tried here: {reason}\n")
        return 2
    builder, began_at = Builder(FOLDER), time.monotonic()
    base = options.base or builder.make_base()
    _say(f"base {base}", began_at)
    builder.fetch_wheels()
    builder.build(base)
    _say("built", began_at)
    image, config = builder.mount()
    try:
        _say(
            f"{_megabytes(image):.0f} MB, of which /opt/kling {_megabytes(image / 'opt/kling'):.0f} MB",
            began_at,
        )
        problems = list(_problems(image, config))
    finally:
        builder.unmount()
    if absent := engine.missing():
        _say(f"Compose is not tried: install {' '.join(absent)}", began_at)
    else:
        problems += _problems_of_compose(builder, began_at)
    _say(f"tried: {count_of(len(problems), 'problem')}", began_at)
    for problem in problems:
        sys.stderr.write(f"make image: {problem}\n")
    return 1 if problems else 0


def _problems(image: pathlib.Path, config: Mapping[str, Any]) -> Iterator[str]:
    """Each is a sentence."""
    yield from _problems_of_files(image)
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        yield from _problems_as_meant(image, config, work=work)
        yield from _problems_without_volume(image, config, work=work)


def _problems_of_files(image: pathlib.Path) -> Iterator[str]:
    found = [
        name
        for name in BUILD_TOOLS
        for folder in ("usr/bin", "usr/local/bin")
        if (image / folder / name).exists()
    ]
    found += [path.name for path in (image / "opt/kling/bin").glob("pip*")]
    if found:
        yield f"build tools are in the image: {', '.join(found)}"


def _problems_as_meant(
    image: pathlib.Path, config: Mapping[str, Any], *, work: pathlib.Path
) -> Iterator[str]:
    """With a read-only root and a volume."""
    data = work / "data"
    data.mkdir()
    with Container(
        image, config, work=work / "meant", settings=_settings(), data=data, read_only=True
    ) as container:
        if not container.wait_for(config["Healthcheck"]["Test"][1:]):
            yield f"the health check of the image never passes. The log ends with:\n{_tail(container)}"
            return
        status = container.status()
        if "0" in status["Uid"].split() or int(status["CapEff"], 16) or status["NoNewPrivs"] != "1":
            yield f"it runs with privileges: {status['Uid']}, {status['CapEff']}"
        if container.run("python", "-c", "open('/opt/kling/new', 'w')").returncode == 0:
            yield "it can write to the image"
        if VANISHES in container.log.read_bytes():
            yield "it warns of a ledger that lies on a volume"
        for command in (["kling-archiver", "status"], ["kling-archiver", "deploy", "list"]):
            if (done := container.run(*command)).returncode:
                yield f"`{' '.join(command)}` ends with {done.returncode}: {done.stderr}"
        if (ended := container.stop()) != 0:
            yield f"SIGTERM ends it with {ended}. The log ends with:\n{_tail(container)}"
    if not (data / "kling-ledger.db").exists():
        yield "the ledger is not on the volume"


def _problems_without_volume(
    image: pathlib.Path, config: Mapping[str, Any], *, work: pathlib.Path
) -> Iterator[str]:
    """The operator forgot it: the daemon starts and warns, or cannot start and says why."""
    settings = _settings()
    with Container(
        image, config, work=work / "forgot", settings=settings, data=None, read_only=False
    ) as container:
        if not container.wait_for(config["Healthcheck"]["Test"][1:]):
            yield f"without a volume it does not start. The log ends with:\n{_tail(container)}"
        elif VANISHES not in container.log.read_bytes():
            yield "it does not warn of a ledger that goes with the container"
    with Container(
        image, config, work=work / "sealed", settings=settings, data=None, read_only=True
    ) as container:
        ended, log = container.wait(), container.log.read_text()
        if not ended or "/data" not in log or "Traceback" in log:
            yield f"read-only and without a volume it ends with {ended} and says:\n{log}"


def _problems_of_compose(builder: Builder, began_at: float) -> list[str]:
    """Caddy and PostgreSQL run on a base of Debian's packages, whatever the base of the image is."""
    builder.make_base()
    with tempfile.TemporaryDirectory() as name, engine.Engine(FOLDER / "engine") as docker:
        work = pathlib.Path(name)
        bring_images(docker, builder.rootfs, builder.export(), work)
        _say("images of Compose", began_at)
        found = list(composed.problems(docker, work / "one"))
        _say("compose.yaml", began_at)
        found += composed_postgres.problems(docker, work / "many")
        _say("compose.postgres.yaml", began_at)
        return found


def _settings() -> dict[str, str]:
    return {**SETTINGS, "KLING_PORT": str(free_port())}


def _tail(container: Container) -> str:
    return container.log.read_text()[-2000:]


def _megabytes(folder: pathlib.Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6


def _say(what: str, began_at: float) -> None:
    sys.stdout.write(f"{time.monotonic() - began_at:6.1f}s {what}\n")
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make image", usage='make image [ARGS="--base IMAGE"]', description=__doc__
    )
    parser.add_argument("--base", help="an image to build on, in place of one made of Debian's packages")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
