"""The Kubernetes manifests: valid by Kubernetes's own schemas, and agreeing with each other and with the program."""

import pathlib
import shutil
import subprocess
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it has no types
import pytest

from archiver.config.roles import ProcessRole
from archiver.config.settings import SETTINGS, Need, Settings
from archiver.version import VERSION
from receiver.health import HealthRoutes
from tests.deploy.manifests import FOLDER, LEFT_OUT, WAYS, Workload, files, objects, workloads
from tests.harness import documents
from tests.harness.deployment import final_stage, image_environment
from tests.harness.programs import program

WORKLOADS = workloads()
of_each_workload = pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
of_each_way = pytest.mark.parametrize("way", WAYS)
PATHS = {
    route.path
    for route in HealthRoutes(
        is_draining=bool,
        is_open=bool,
        probe=lambda: None,
        degraded=list,
        refresh_metrics=lambda: None,
        render_metrics=lambda: (b"", ""),
    ).routes()
}


def test_there_is_a_workload_of_each_role() -> None:
    assert {(workload.way, workload.role) for workload in WORKLOADS} == {
        ("sqlite", ProcessRole.WHOLE),
        ("postgres", ProcessRole.DOOR),
        ("postgres", ProcessRole.GATEWAY),
        ("postgres", ProcessRole.WORK),
    }


@of_each_way
def test_every_object_is_valid_and_has_no_field_that_kubernetes_does_not_know(way: str) -> None:
    version = kubernetes_validate.latest_version()
    for document in objects(way):
        kubernetes_validate.validate(document, version, strict=True)


@of_each_way
def test_the_kustomization_takes_every_file(way: str) -> None:
    kustomization = documents.read(FOLDER / way / "kustomization.yaml")
    own = {path.name for path in files(way) if path.parent.name == way} - {"kustomization.yaml"}

    assert set(kustomization["resources"]) == own - LEFT_OUT | {"../base"}
    assert [image["name"] for image in kustomization["images"]] == ["kling-archiver"]
    assert {workload.container["image"] for workload in WORKLOADS} == {"kling-archiver"}
    base = documents.read(FOLDER / "base/kustomization.yaml")
    assert [(FOLDER / "base" / name).exists() for name in base["resources"]] == [True]


@pytest.fixture(scope="module")
def kubectl() -> str:
    """One whose kustomize takes folders among the resources."""
    found = program("kubectl")
    command = [found, "version", "--client", "--output=json"]
    is_here = shutil.which(found) is not None
    said = subprocess.run(command, check=False, capture_output=True, text=True).stdout if is_here else ""
    if "kustomizeVersion" not in said:
        pytest.skip("kubectl 1.24 or newer is missing: install it from Kubernetes's own packages")
    return found


@pytest.mark.parametrize("taken_in", [(), sorted(LEFT_OUT)], ids=["as it is", "with the gateway"])
@of_each_way
def test_kustomize_makes_of_it_these_objects_in_one_namespace(
    way: str, taken_in: list[str], kubectl: str, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    kustomization = tmp_path / "kubernetes" / way / "kustomization.yaml"
    written = kustomization.read_text()
    for name in taken_in:
        written = written.replace(f"  # - {name}\n", f"  - {name}\n")
    kustomization.write_text(written)
    done = subprocess.run(
        [kubectl, "kustomize", str(kustomization.parent)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    made = documents.parse_all(done.stdout)

    left_out = {
        (document["kind"], document["metadata"]["name"])
        for name in LEFT_OUT - set(taken_in)
        if (FOLDER / way / name).exists()
        for document in documents.read_all(FOLDER / way / name)
    }
    written_down = {(document["kind"], document["metadata"]["name"]) for document in objects(way)}
    assert sorted((document["kind"], document["metadata"]["name"]) for document in made) == sorted(
        written_down - left_out
    )
    assert {document["metadata"]["namespace"] for document in made} == {"kling"}
    images = [
        document["spec"]["template"]["spec"]["containers"][0]["image"]
        for document in made
        if document["kind"] in {"Deployment", "StatefulSet"}
    ]
    assert set(images) == {f"registry.example.com/kling-archiver:{VERSION}"}


def settings_given(workload: Workload, secrets: pathlib.Path) -> dict[str, str]:
    """The environment of the container; every secret that it mounts is there."""
    [settings] = objects(workload.way, "ConfigMap")
    assert workload.container["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]
    environ: dict[str, str] = image_environment() | settings["data"]
    environ |= {given["name"]: given["value"] for given in workload.container.get("env", [])}
    mounted = {mount["mountPath"] for mount in workload.container["volumeMounts"]}
    for value in [*environ.values(), "/run/secrets/links/link_secret"]:
        path = pathlib.PurePosixPath(value)
        if str(path.parent) in mounted:
            (secrets / path.parent.name).mkdir(exist_ok=True)
            text = (
                "postgresql://kling:word@postgres/kling"
                if path.name == "url"
                else f"{path.name}-0123456789-012345"
            )
            (secrets / path.parent.name / path.name).write_text(f"{text}-6789")
    return {name: value.replace("/run/secrets", str(secrets)) for name, value in environ.items()}


@of_each_workload
@pytest.mark.parametrize("key", ["pair", "API Key"])
def test_each_process_starts_with_what_it_is_given(
    workload: Workload, key: str, tmp_path: pathlib.Path
) -> None:
    environ = settings_given(workload, tmp_path)
    environ["KLING_LINK_SECRET_FILE"] = f"{tmp_path}/links/link_secret"
    if workload.role is ProcessRole.GATEWAY:  # as its file says
        environ["KLING_GATEWAY"] = "on"
    if key == "API Key" and workload.role.uses_kling:
        environ = {
            name: value
            for name, value in environ.items()
            if name[6:] not in {"ACCESS_KEY_FILE", "SECRET_KEY_FILE"}
        }
        environ["KLING_API_KEY_FILE"] = f"{tmp_path}/kling/api_key"
        (tmp_path / "kling/api_key").write_text("api-key-0123456789-0123456789")
    settings = Settings.load(environ, need=workload.role.need)

    assert (settings.unknown, settings.misspelled) == ((), ())
    assert bool(settings.link_secret) == (Need.LINKS in workload.role.need)
    assert settings.ledger_url.startswith(
        "sqlite:////data/" if workload.way == "sqlite" else "postgresql://kling"
    )
    assert str(settings.port) == final_stage()["EXPOSE"]
    assert environ.keys() & {setting.name for setting in SETTINGS if setting.secret} == set()


@of_each_workload
def test_each_process_sees_the_secrets_of_its_role_only(workload: Workload) -> None:
    seen = {volume["secret"]["secretName"] for volume in workload.pod["volumes"] if "secret" in volume}
    of_role = {
        ProcessRole.WHOLE: {"kling-kling", "kling-door", "kling-store", "kling-links"},
        ProcessRole.DOOR: {"kling-ledger", "kling-door"},
        ProcessRole.GATEWAY: {"kling-ledger", "kling-door", "kling-kling", "kling-store", "kling-links"},
        ProcessRole.WORK: {"kling-ledger", "kling-kling", "kling-store", "kling-links"},
    }

    assert seen == of_role[workload.role]
    assert {volume["secret"]["defaultMode"] for volume in workload.pod["volumes"] if "secret" in volume} == {
        0o440
    }


@of_each_workload
def test_each_volume_is_mounted_and_each_mount_has_its_volume(workload: Workload) -> None:
    claims = [
        claim["metadata"]["name"] for claim in workload.document["spec"].get("volumeClaimTemplates", [])
    ]
    volumes = [volume["name"] for volume in workload.pod["volumes"]] + claims
    mounts = workload.container["volumeMounts"]

    assert sorted(volumes) == sorted(mount["name"] for mount in mounts)
    writable = {mount["mountPath"] for mount in mounts if not mount.get("readOnly")}
    assert writable == ({"/tmp"} if workload.role is ProcessRole.DOOR else {"/tmp", "/data"})  # noqa: S108 -- the container's


@of_each_workload
def test_the_probes_ask_what_the_daemon_answers_on_its_port(workload: Workload) -> None:
    probes = {name: workload.container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
    asked = {name: probe["httpGet"] for name, probe in probes.items()}

    assert asked == {
        "startup": {"path": "/healthz", "port": "http"},
        "liveness": {"path": "/healthz", "port": "http"},
        "readiness": {"path": "/readyz", "port": "http"},
    }
    assert {get["path"] for get in asked.values()} <= PATHS
    assert workload.container["ports"] == [{"name": "http", "containerPort": int(final_stage()["EXPOSE"])}]
    annotations = workload.document["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == final_stage()["EXPOSE"]
    assert annotations["prometheus.io/path"] in PATHS


@of_each_workload
def test_kubernetes_waits_for_drain_and_shutdown_before_it_kills(
    workload: Workload, tmp_path: pathlib.Path
) -> None:
    environ = settings_given(workload, tmp_path)
    settings = Settings.load({"KLING_DRAIN_SECONDS": environ["KLING_DRAIN_SECONDS"]}, need=[])
    leaves_the_service = 2 * workload.container["readinessProbe"]["periodSeconds"]

    assert settings.drain_seconds >= leaves_the_service, "no preStop hook is needed"
    assert (
        workload.pod["terminationGracePeriodSeconds"] > settings.drain_seconds + settings.shutdown_seconds + 5
    )


@of_each_workload
def test_each_pod_is_shut_in(workload: Workload) -> None:
    user, group = final_stage()["USER"].split(":")
    assert workload.pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": int(user),
        "runAsGroup": int(group),
        "fsGroup": int(group),
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert workload.container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert workload.pod["automountServiceAccountToken"] is False
    assert workload.container["resources"].keys() == {"requests", "limits"}
    assert "memory" in workload.container["resources"]["limits"]
    assert not workload.pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}


@of_each_workload
def test_each_workload_has_its_labels_its_account_and_where_it_may_its_disruption_budget(
    workload: Workload,
) -> None:
    assert workload.is_selected_by(workload.document["spec"]["selector"])
    accounts = {account["metadata"]["name"] for account in objects(workload.way, "ServiceAccount")}
    assert workload.pod["serviceAccountName"] in accounts
    budgets = [
        budget
        for budget in objects(workload.way, "PodDisruptionBudget")
        if workload.is_selected_by(budget["spec"]["selector"])
    ]
    replicas = workload.document["spec"]["replicas"]
    assert [budget["spec"]["minAvailable"] for budget in budgets] == ([] if replicas == 1 else [1])
    assert replicas == (1 if workload.way == "sqlite" else 2)


def _selecting(workload: Workload, kind: str) -> list[dict[str, Any]]:
    key = "podSelector" if kind == "NetworkPolicy" else "selector"
    found = objects(workload.way, kind)
    return [document for document in found if workload.is_selected_by(_as_selector(document["spec"][key]))]


def _as_selector(written: dict[str, Any]) -> dict[str, Any]:
    """That of a Service are labels themselves."""
    return written if not written or "matchLabels" in written else {"matchLabels": written}


@of_each_way
def test_each_service_policy_and_budget_selects_something(way: str) -> None:
    here = [workload for workload in WORKLOADS if workload.way == way]
    for kind in ("Service", "NetworkPolicy"):
        chosen = [
            document["metadata"]["name"] for workload in here for document in _selecting(workload, kind)
        ]
        assert set(chosen) == {document["metadata"]["name"] for document in objects(way, kind)}


@of_each_way
def test_outside_reaches_callbacks_links_and_kling_s_paths_only(way: str) -> None:
    services = {service["metadata"]["name"]: service for service in objects(way, "Service")}
    seen = set()
    for ingress in objects(way, "Ingress"):
        [rule] = ingress["spec"]["rules"]
        for path in rule["http"]["paths"]:
            backend = path["backend"]["service"]
            assert backend["port"]["name"] in {
                port["name"] for port in services[backend["name"]]["spec"]["ports"]
            }
            seen.add(path["path"])
    of_klings = {"/v1", "/tasks", "/solutions", "/kling"}

    assert seen == {"/callbacks", "/files"} | (of_klings if way == "postgres" else set())
    assert [service["spec"].get("type") for service in services.values()] == [None] * len(services)


@of_each_workload
def test_each_pod_may_speak_with_those_that_its_role_needs(workload: Workload) -> None:
    policies = _selecting(workload, "NetworkPolicy")
    goes_to = {
        port["port"]
        for policy in policies
        for rule in policy["spec"].get("egress", [])
        for port in rule["ports"]
    }
    comes_to = {
        port["port"]
        for policy in policies
        for rule in policy["spec"].get("ingress", [])
        for port in rule["ports"]
    }
    ledger = {5432} if workload.way == "postgres" else set()

    assert goes_to == {53} | ledger | ({443, 80} if workload.role.uses_kling else set())
    assert comes_to == {int(final_stage()["EXPOSE"])}
    assert any(policy["spec"]["policyTypes"] == ["Ingress", "Egress"] for policy in policies), (
        "all else is refused"
    )


@of_each_way
def test_without_tls_pods_reach_only_the_agent_that_gives_them_a_role(way: str) -> None:
    rules = [rule for policy in objects(way, "NetworkPolicy") for rule in policy["spec"].get("egress", [])]
    plain = [rule for rule in rules if {"protocol": "TCP", "port": 80} in rule["ports"]]
    agent = [{"ipBlock": {"cidr": "169.254.170.23/32"}}, {"ipBlock": {"cidr": "fd00:ec2::23/128"}}]

    assert plain
    assert [rule["to"] for rule in plain] == [agent] * len(plain)


@of_each_way
def test_each_ingress_says_how_secret_paths_stay_out_of_both_logs_of_nginx(way: str) -> None:
    annotation = "nginx.ingress.kubernetes.io/enable-access-log"
    found = [path for path in files(way) if "\nkind: Ingress\n" in path.read_text()]
    assert found
    for path in found:
        assert "error-log-level: crit" in path.read_text(), path.name
    assert {ingress["metadata"]["annotations"][annotation] for ingress in objects(way, "Ingress")} == {
        "false"
    }
    assert '"error-log-level":"crit"' in (FOLDER.parent / "README.md").read_text()


def test_the_ledger_of_one_daemon_is_on_a_disk_of_its_own_that_outlives_it() -> None:
    [daemon] = [workload for workload in WORKLOADS if workload.way == "sqlite"]
    spec = daemon.document["spec"]

    assert daemon.document["kind"] == "StatefulSet"
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert [claim["spec"]["accessModes"] for claim in spec["volumeClaimTemplates"]] == [["ReadWriteOncePod"]]
