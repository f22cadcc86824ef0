"""The Kubernetes manifests, as `kubectl apply -k` would take them."""

import dataclasses
import pathlib
from typing import Any

from archiver.config.roles import ProcessRole
from tests.harness import documents
from tests.harness.deployment import DEPLOY

FOLDER = DEPLOY / "kubernetes"
WAYS = ("sqlite", "postgres")
LEFT_OUT = {"gateway.yaml"}
"""Of the ways: taken in by hand."""


def files(way: str) -> list[pathlib.Path]:
    """Everything that a way of running it consists of, and what may be taken in."""
    return [path for folder in (FOLDER / "base", FOLDER / way) for path in sorted(folder.glob("*.yaml"))]


def objects(way: str, kind: str | None = None) -> list[dict[str, Any]]:
    found = [document for path in files(way) for document in documents.read_all(path)]
    return [
        document
        for document in found
        if document["kind"] != "Kustomization" and kind in (None, document["kind"])
    ]


@dataclasses.dataclass(frozen=True)
class Workload:
    """A Deployment or a StatefulSet."""

    way: str
    role: ProcessRole
    document: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.document["metadata"]["name"])

    @property
    def pod(self) -> dict[str, Any]:
        found = self.document["spec"]["template"]["spec"]
        assert isinstance(found, dict)
        return found

    @property
    def container(self) -> dict[str, Any]:
        [found] = self.pod["containers"]
        assert isinstance(found, dict)
        return found

    @property
    def labels(self) -> dict[str, str]:
        found = self.document["spec"]["template"]["metadata"]["labels"]
        assert isinstance(found, dict)
        return found

    def is_selected_by(self, selector: dict[str, Any]) -> bool:
        """A selector of labels that must all be there; none select everything."""
        assert selector.keys() <= {"matchLabels"}
        return bool(selector.get("matchLabels", {}).items() <= self.labels.items())


def workloads() -> list[Workload]:
    roles = {role.value: role for role in ProcessRole}
    return [
        Workload(
            way, roles[" ".join(document["spec"]["template"]["spec"]["containers"][0]["command"])], document
        )
        for way in WAYS
        for document in objects(way)
        if document["kind"] in {"Deployment", "StatefulSet"}
    ]
