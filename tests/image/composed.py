"""deploy/compose.yaml, as Docker and Compose start it with the image that was built."""

import pathlib
from collections.abc import Iterator

from tests.image.composition import PUBLIC_URL, TOKEN, Composition
from tests.image.engine import Engine

NOWHERE = "http://127.0.0.1:9"
SETTINGS = {
    "KLING_PUBLIC_URL": PUBLIC_URL,
    "KLING_BASE_URL": NOWHERE,
    "KLING_S3_ENDPOINT_URL": NOWHERE,
}
"""Neither account nor bucket is in reach: the door opens all the same."""
SECRETS = {
    "kling/access_key": "an-access-key",
    "kling/secret_key": "a-secret-key-of-nobody",
    "door/callback_token": TOKEN,
    "store/aws_credentials": "[default]\naws_access_key_id = nobody\naws_secret_access_key = nobody",
}
TASK = "831768251064815642"
BACKUP = "kling-archiver backup copy.db && mkdir aside && mv copy.db aside/"
RESTORE = "umask 077; mkdir old; mv kling-ledger.db* old/; cat aside/copy.db >kling-ledger.db"


def problems(engine: Engine, work: pathlib.Path) -> Iterator[str]:
    """Each is a sentence. The engine has the images."""
    composition = Composition(engine, work, "compose.yaml", settings=SETTINGS, secrets=SECRETS)
    try:
        yield from _problems_of(composition)
    finally:
        composition.remove()


def _problems_of(composition: Composition) -> Iterator[str]:
    # Compose starts Caddy only when the daemon's health check has passed.
    status, said = composition.run("up", "--detach", "--no-build")
    if status:
        yield f"`up` ends with {status}: {said}"
        return
    if (answered := composition.call_back(TASK)) != 200:
        yield f"a callback through the proxy is answered by {answered}"
    status, said = composition.run("exec", "-T", "kling", "kling-archiver", "show", TASK)
    if status or "reported" not in said:
        yield f"`exec` ends with {status}, and does not show the task of the callback: {said}"
    yield from _problems_of_restoring(composition)


def _problems_of_restoring(composition: Composition) -> Iterator[str]:
    """README's commands: the copy is the ledger again, and its owner the container's user."""
    yield from composition.failed("exec", "-T", "kling", "sh", "-ec", BACKUP)
    yield from composition.failed("stop", "kling")
    if (ended := composition.exit_statuses("kling")) != ["0"]:
        yield f"`stop` ends the daemon with {ended}"
    yield from composition.failed("run", "--rm", "--no-deps", "-T", "kling", "sh", "-ec", RESTORE)
    yield from composition.failed("start", "kling")
    show = f"until kling-archiver show {TASK}; do sleep 1; done"
    yield from composition.failed("exec", "-T", "kling", "sh", "-ec", show)
