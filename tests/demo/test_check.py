"""The demo's check finds each way in which a bucket can be wrong."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator

import pytest

from archiver.archive.manifest import Manifest
from archiver.model import DiscoveredBy, Role, StoredAsset
from tests.demo.check import Checker
from tests.demo.plans import EXPAND, GENERATIONS, CreatedTask, Plan, Twist
from tests.s3_servers import S3Server
from tests.simulator import KlingSimulator


@dataclasses.dataclass
class Archived:
    """One task in a bucket, put there as the daemon would; a test then does some damage."""

    server: S3Server
    bucket: str
    sim: KlingSimulator
    task: CreatedTask

    def put(self, name: str, body: bytes, *, at: str = "1700000000") -> None:
        """`at` is Unix seconds, which this server takes for the time of the object."""
        self.server.client.put_object(
            Bucket=self.bucket, Key=self.task.folder + name, Body=body, Metadata={"mtime": at}
        )

    def remove(self, name: str) -> None:
        self.server.client.delete_object(Bucket=self.bucket, Key=self.task.folder + name)

    def put_manifest(self, **changes: object) -> None:
        """A right one but for `changes`."""
        task = self.sim.task(self.task.task_id)
        manifest = Manifest(
            account="default",
            family=self.task.plan.family,
            task_id=self.task.task_id,
            external_task_id=None,
            created_at=task.created_at,
            updated_at=task.updated_at,
            archived_at=task.updated_at,
            discovered_by=DiscoveredBy.SWEEP,
            assets=tuple(self.asset(name) for name in self.task.names),
            request=None,
            task={},
        )
        self.put("manifest.json", dataclasses.replace(manifest, **changes).to_bytes())  # type: ignore[arg-type]  # any

    def asset(self, name: str, *, body: bytes | None = None) -> StoredAsset:
        content = self.sim.expected_bytes(self.task.task_id, name) if body is None else body
        return StoredAsset(
            stem=name.removesuffix(".png"),
            name=name,
            key=self.task.folder + name,
            role=Role.IMAGE,
            index=int(name[0]),
            watermarked=False,
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            content_type="image/png",
            width=24,
            height=24,
            source_url="https://cdn.example/0.png",
        )

    def problems(self) -> list[str]:
        checker = Checker(self.server.client, bucket=self.bucket, sim=self.sim)
        return [*checker.problems_of(self.task), *checker.unexpected_objects([self.task])]


@pytest.fixture
def archived(rclone_server: S3Server) -> Iterator[Archived]:
    with KlingSimulator() as sim:
        task_id = sim.create_task(images=2, status="succeed")
        plan = Plan(GENERATIONS, 2, twist=Twist.HISTORY)
        task = CreatedTask(task_id, f"{GENERATIONS}/2026/11/20/{task_id}/", plan, ("0.png", "1.png"))
        made = Archived(rclone_server, rclone_server.create_bucket(), sim, task)
        for name in task.names:
            made.put(name, sim.expected_bytes(task_id, name))
        made.put_manifest()
        yield made


def test_a_task_that_is_whole_is_right(archived: Archived) -> None:
    assert archived.problems() == []


DAMAGES: dict[str, Callable[[Archived], object]] = {
    "0.png differs from what the account made": lambda it: it.put("0.png", b"something else"),
    "1.png is missing": lambda it: it.remove("1.png"),
    "manifest.json is missing": lambda it: it.remove("manifest.json"),
    "2.png is not expected": lambda it: it.put("2.png", b"too much"),
    "its manifest is older than its files": lambda it: it.put(
        "0.png", it.sim.expected_bytes(it.task.task_id, "0.png"), at="1700000001"
    ),
    "its manifest is that of": lambda it: it.put_manifest(task_id="852"),
    "found by callback, though no callback was sent": lambda it: it.put_manifest(
        discovered_by=DiscoveredBy.CALLBACK
    ),
    "its manifest differs from the objects": lambda it: it.put_manifest(
        assets=(it.asset("0.png"), it.asset("1.png", body=b"wrong"))
    ),
    "its manifest: 'nobody' is not one of": lambda it: it.put_manifest(discovered_by="nobody"),
}


@pytest.mark.parametrize("sentence", DAMAGES)
def test_damage_is_reported(archived: Archived, sentence: str) -> None:
    DAMAGES[sentence](archived)

    assert any(sentence in problem for problem in archived.problems()), archived.problems()


def test_an_object_of_no_task_is_reported(archived: Archived) -> None:
    key = f"{EXPAND}/2026/11/20/1/0.png"
    archived.server.client.put_object(Bucket=archived.bucket, Key=key, Body=b"forged")

    assert archived.problems() == [f"unexpected in the bucket: {key}"]


def test_a_failed_task_must_have_left_nothing(archived: Archived) -> None:
    failed = dataclasses.replace(archived.task, names=())

    problems = Checker(archived.server.client, bucket=archived.bucket, sim=archived.sim).problems_of(failed)

    assert len(problems) == 3
    assert all("is not expected" in problem for problem in problems)


def test_a_refusal_of_the_server_is_a_sentence_and_no_traceback(archived: Archived) -> None:
    checker = Checker(archived.server.client, bucket="no-such-bucket", sim=archived.sim)

    (problem,) = checker.problems_of(archived.task)

    assert "the S3 server says" in problem
