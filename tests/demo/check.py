"""Whether the bucket is right, seen from outside: through S3, against the account's own bytes and the published schema.

Imports nothing of the daemon's. Whatever it finds wrong is a sentence; no sentence means that every object of the task
is there, byte for byte, and that the manifest says so and was not there before them.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
from botocore.exceptions import BotoCoreError, ClientError

from tests.demo.story import Told, Twist
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

    def problems_of(self, told: Told) -> list[str]:
        """What is wrong with one task that is archived or has failed."""
        try:
            return [f"task {told.task_id}: {problem}" for problem in self._problems(told)]
        except (BotoCoreError, ClientError) as error:
            return [f"task {told.task_id}: the S3 server says {error}"]

    def strangers(self, told: Iterable[Told]) -> list[str]:
        """Objects that belong to none of these tasks."""
        folders = {one.folder for one in told}
        return [
            f"unexpected in the bucket: {key}"
            for key in self._objects("")
            if key[: key.rfind("/") + 1] not in folders
        ]

    def _problems(self, told: Told) -> Iterator[str]:
        objects = self._objects(told.folder)
        names = {key.removeprefix(told.folder) for key in objects}
        expected = {*told.names, MANIFEST} if told.names else set()
        yield from (f"{name} is missing" for name in sorted(expected - names))
        yield from (f"{name} is not expected" for name in sorted(names - expected))
        if expected == names and expected:
            yield from self._content_problems(told, objects)

    def _content_problems(self, told: Told, objects: Mapping[str, "ObjectTypeDef"]) -> Iterator[str]:
        bodies = {name: self._body(told.folder + name) for name in told.names}
        for name, body in bodies.items():
            if body != self._sim.expected_bytes(told.task_id, name):
                yield f"{name} has other bytes than the account made"
        self.objects += len(bodies)
        self.bytes += sum(len(body) for body in bodies.values())
        manifest = json.loads(self._body(told.folder + MANIFEST))
        yield from (f"its manifest: {error.message}" for error in self._schema.iter_errors(manifest))
        yield from _manifest_problems(told, manifest, bodies)
        written_at = {key: entry["LastModified"] for key, entry in objects.items()}
        if written_at[told.folder + MANIFEST] < max(written_at.values()):
            yield "its manifest is older than its files"

    def _objects(self, prefix: str) -> dict[str, "ObjectTypeDef"]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        return {entry["Key"]: entry for page in pages for entry in page.get("Contents", [])}

    def _body(self, key: str) -> bytes:
        return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()


def _manifest_problems(told: Told, manifest: Mapping[str, Any], bodies: Mapping[str, bytes]) -> Iterator[str]:
    identity = (manifest["task_id"], manifest["family"], manifest["status"])
    if identity != (told.task_id, told.plan.family, "succeed"):
        yield f"its manifest is that of {identity}"
    if told.plan.twist in (Twist.HISTORY, Twist.DROPPED) and manifest["discovered_by"] != "sweep":
        yield f"found by {manifest['discovered_by']}, though no callback was sent"
    said = {asset["key"]: (asset["bytes"], asset["sha256"]) for asset in manifest["assets"]}
    true = {
        told.folder + name: (len(body), hashlib.sha256(body).hexdigest()) for name, body in bodies.items()
    }
    if said != true:
        differing = sorted(key for key in said.keys() | true.keys() if said.get(key) != true.get(key))
        yield f"its manifest differs from the objects: {', '.join(differing)}"
