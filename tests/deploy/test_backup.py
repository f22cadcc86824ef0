"""What deploy/README.md says of copies of the ledger holds in each shipped way of running: its paths, its names, its
order."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it has no types
import pytest

from tests.deploy.manifests import objects, workloads
from tests.deploy.units import UNITS
from tests.harness import documents
from tests.harness.deployment import DEPLOY, final_stage, image_environment, service

README = (DEPLOY / "README.md").read_text()
BACKUP = README.partition("\n## Backup and restore\n")[2].partition("\n## ")[0]
UNINSTALL = README.partition("\n## Uninstall\n")[2].partition("\n## ")[0]
COPYING, RESTORING = (
    {
        way: block
        for block in re.findall(r"(?ms)^```sh\n(.*?)^```", part)
        for way in re.findall(r"(?m)^# (systemd|Compose|Kubernetes|PostgreSQL)\b", block)
    }
    for part in BACKUP.split("\n### Restore a copy\n")
)
FOLDER = f"/var/lib/private/{UNITS[0].values('StateDirectory')[0]}"
"""Where DynamicUser= has the state folder."""
OF_THE_MACHINE = {"/bin/sh", "/etc/cron.daily/kling-backup", "/usr/local/sbin/kling-archiver", "/var/backups"}
of_the_containers = pytest.mark.parametrize("way", ["Compose", "Kubernetes"])


def paths(text: str) -> set[str]:
    found = re.findall(r"(?<![\w$.:/-])(?:kling(?:-daemon-0)?:)?(/[\w.$/-]+)", text)
    return {path.rstrip("/") for path in found}


def test_there_is_a_block_for_each_way_of_running() -> None:
    ways = ["systemd", "Compose", "Kubernetes", "PostgreSQL"]

    assert (list(COPYING), list(RESTORING)) == (ways, ways)


def test_every_path_is_one_of_the_unit_or_the_container() -> None:
    [ledger] = [value for value in UNITS[0].values("Environment") if value.startswith("KLING_LEDGER_URL=")]
    assert Path(ledger).name == Path(image_environment()["KLING_LEDGER_URL"]).name == "kling-ledger.db"
    assert "kling-data:/data" in service("kling")["volumes"]
    [daemon] = [workload for workload in workloads() if workload.way == "sqlite"]
    assert {"name": "data", "mountPath": "/data"} in daemon.container["volumeMounts"]

    of_systemd = paths(COPYING["systemd"] + RESTORING["systemd"])
    of_containers = paths(
        "".join(blocks[way] for blocks in (COPYING, RESTORING) for way in ("Compose", "Kubernetes"))
    )
    assert {path for path in of_systemd if not path.startswith("/var/backups/")} == {
        FOLDER,
        f"{FOLDER}/$copy",
        *OF_THE_MACHINE,
    }
    assert of_containers == {"/data", "/data/copy.db"}


@pytest.mark.parametrize("way", ["systemd", "Compose", "Kubernetes"])
def test_a_copy_leaves_the_place_that_uninstalling_deletes(way: str) -> None:
    lines = COPYING[way].splitlines()
    [made] = [at for at, line in enumerate(lines) if "kling-archiver backup" in line]
    [left] = [at for at, line in enumerate(lines) if re.search(r"^install | cp kling", line)]
    [removed] = [at for at, line in enumerate(lines) if re.search(r"\brm ", line)]

    assert made < left < removed
    assert "(#backup-and-restore)" in UNINSTALL
    assert "backup FILE" not in UNINSTALL, "which alone leaves the copy in what the next step deletes"


@of_the_containers
def test_the_commands_name_the_container_that_is_shipped(way: str) -> None:
    for line in (COPYING[way] + RESTORING[way]).splitlines():
        if line.startswith("docker"):
            [file] = re.findall(r"-f (\S+)", line)
            assert documents.read(DEPLOY.parent / file)["services"]["kling"]
    [daemon] = [workload for workload in workloads() if workload.way == "sqlite"]
    assert daemon.name == "kling-daemon"
    assert f"statefulset {daemon.name} --replicas=0" in RESTORING["Kubernetes"]


def test_the_pod_that_restores_has_the_claim_and_the_user_of_the_daemon(tmp_path: Path) -> None:
    [text] = re.findall(r"(?ms)<<'END'\n(.*?)^END$", RESTORING["Kubernetes"])
    (tmp_path / "pod.yaml").write_text(text)
    pod: dict[str, Any] = documents.read(tmp_path / "pod.yaml")
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    [daemon] = [document for document in objects("sqlite") if document["kind"] == "StatefulSet"]
    [claim] = daemon["spec"]["volumeClaimTemplates"]
    [image] = documents.read(DEPLOY / "kubernetes/sqlite/kustomization.yaml")["images"]
    user, group = map(int, final_stage()["USER"].split(":"))

    assert pod["spec"]["volumes"][0]["persistentVolumeClaim"] == {
        "claimName": f"{claim['metadata']['name']}-{daemon['metadata']['name']}-0"
    }
    assert pod["spec"]["containers"][0]["image"] == f"{image['newName']}:{image['newTag']}"
    assert pod["spec"]["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": group,
        "fsGroup": group,
    }


@pytest.mark.parametrize("way", ["systemd", "Compose", "Kubernetes"])
def test_what_a_restore_runs_puts_the_copy_in_the_place_of_the_ledger_and_all_its_files(
    way: str, tmp_path: Path
) -> None:
    [script] = re.findall(r"(?ms)sh -ec '\n(.*?)'", RESTORING[way])
    place, copy = tmp_path / "place", tmp_path / "kling-2026-11-26.db"
    place.mkdir()
    copy.write_text("copy")
    for end in ("", "-wal", "-shm"):
        (place / f"kling-ledger.db{end}").write_text("old")
    for named in (FOLDER, "/data"):
        script = re.sub(rf"cd {named}$", f"cd {shlex.quote(str(place))}", script, flags=re.MULTILINE)
    script = script.replace("/var/backups/", f"{tmp_path}/")
    with copy.open() as given:
        subprocess.run(["sh", "-ec", script], stdin=given, check=True)

    assert {path.name: path.read_text() for path in place.iterdir() if path.is_file()} == {
        "kling-ledger.db": "copy"
    }
    assert (place / "kling-ledger.db").stat().st_mode & 0o777 == 0o600
    assert len(list((place / "old").iterdir())) == 3


def test_no_command_expands_a_pattern_in_a_folder_that_only_root_can_read() -> None:
    for document in DEPLOY.rglob("*.md"):
        for line in document.read_text().splitlines():
            words = re.findall(
                r"(?:^|\s)(/etc/kling-archiver/\S*\*|/var/lib/\S*\*)", re.sub(r"'[^']*'", "", line)
            )
            assert not words or "sudo" not in line, f"{document.name}: {line}"
