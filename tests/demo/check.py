"""Check the bucket from outside: through S3, against the account's own bytes and the published schema.

Imports nothing of the daemon. Each problem is a sentence. No sentence means: every object of the task is there, byte
for byte, and the manifest names them all and is not older than they are.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
from botocore.exceptions import BotoCoreError, ClientError

from tests.demo.plans import CreatedTask, Twist
from tests.simulator import KlingSimulator

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import ObjectTypeDef

SCHEMA = Path(__file__).parents[2] / "deploy" / "manifest.schema.json"
MANIFEST = "manifest.json"


class Checker:
    """Counts what it has seen: `objects` without the manifests, and their `bytes`."""

    def __init__(self, client: "S3Client", *, bucket: str, sim: KlingSimulator) -> None:
        self.objects = 0
        self.bytes = 0
        self._client = client
        self._bucket = bucket
        self._sim = sim
        self._schema = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))

    def problems_of(self, task: CreatedTask) -> list[str]:
        """The problems of one task that is archived or has failed."""
        try:
            return [f"task {task.task_id}: {problem}" for problem in self._problems(task)]
        except (BotoCoreError, ClientError) as error:
            return [f"task {task.task_id}: the S3 server says {error}"]

    def unexpected_objects(self, tasks: Iterable[CreatedTask]) -> list[str]:
        """Objects that belong to none of these tasks."""
        folders = {task.folder for task in tasks}
        return [
            f"unexpected in the bucket: {key}"
            for key in self._objects("")
            if key[: key.rfind("/") + 1] not in folders
        ]

    def _problems(self, task: CreatedTask) -> Iterator[str]:
        objects = self._objects(task.folder)
        names = {key.removeprefix(task.folder) for key in objects}
        expected = {*task.names, MANIFEST} if task.names else set()
        yield from (f"{name} is missing" for name in sorted(expected - names))
        yield from (f"{name} is not expected" for name in sorted(names - expected))
        if expected == names and expected:
            yield from self._content_problems(task, objects)

    def _content_problems(self, task: CreatedTask, objects: Mapping[str, "ObjectTypeDef"]) -> Iterator[str]:
        bodies = {name: self._body(task.folder + name) for name in task.names}
        for name, body in bodies.items():
            if body != self._sim.expected_bytes(task.task_id, name):
                yield f"{name} differs from what the account made"
        self.objects += len(bodies)
        self.bytes += sum(len(body) for body in bodies.values())
        manifest = json.loads(self._body(task.folder + MANIFEST))
        yield from (f"its manifest: {error.message}" for error in self._schema.iter_errors(manifest))
        yield from _manifest_problems(task, manifest, bodies)
        written_at = {key: entry["LastModified"] for key, entry in objects.items()}
        if written_at[task.folder + MANIFEST] < max(written_at.values()):
            yield "its manifest is older than its files"

    def _objects(self, prefix: str) -> dict[str, "ObjectTypeDef"]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        return {entry["Key"]: entry for page in pages for entry in page.get("Contents", [])}

    def _body(self, key: str) -> bytes:
        return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()


def _manifest_problems(
    task: CreatedTask, manifest: Mapping[str, Any], bodies: Mapping[str, bytes]
) -> Iterator[str]:
    identity = (manifest["task_id"], manifest["family"], manifest["status"])
    if identity != (task.task_id, task.plan.family, "succeed"):
        yield f"its manifest is that of {identity}"
    if task.plan.twist in (Twist.HISTORY, Twist.DROPPED) and manifest["discovered_by"] != "sweep":
        yield f"found by {manifest['discovered_by']}, though no callback was sent"
    named = {asset["key"]: (asset["bytes"], asset["sha256"]) for asset in manifest["assets"]}
    true = {
        task.folder + name: (len(body), hashlib.sha256(body).hexdigest()) for name, body in bodies.items()
    }
    if named != true:
        differing = sorted(key for key in named.keys() | true.keys() if named.get(key) != true.get(key))
        yield f"its manifest differs from the objects: {', '.join(differing)}"
