"""The manifests: valid by Kubernetes' own schemas, and in step with each other, with the server and with the images."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from fastapi import FastAPI
from starlette.routing import Route

from api import collections
from api.app import create_app
from api.audit import shipping
from api.identity import identity
from api.settings import ServeSettings
from tests.api.conftest import settings_for
from tests.infra.dockerfile import ROOT, stages

FOLDER = ROOT / "infra" / "kubernetes"
OLDEST = "1.35"
"""The first in which ``trafficDistribution: PreferSameZone`` needs no gate; docs/kubernetes.md says so."""
MANIFESTS = sorted(path for path in FOLDER.rglob("*.yaml") if path.name not in ("kustomization.yaml", "serve.yaml"))
UNITS = {"Mi": 1 << 20, "Gi": 1 << 30}
TRACES_SECONDS = 5
"""For which a server that ends waits for a collector of traces that hangs, at most."""
SLACK_SECONDS = collections.STOP_SECONDS * 2 + identity.STOP_SECONDS + shipping.STOP_SECONDS + TRACES_SECONDS
"""For threads that may hang with the bucket: the one that lists collections and theirs, the keys', the audit log's."""
LOG_BYTES = 512 << 20
"""What the node keeps of a container's log at most, with plenty to spare: by default five files of 10 MiB."""


def documents(path: Path) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


def manifest(name: str) -> dict[str, Any]:
    (found,) = documents(FOLDER / name)
    return found


def pod(found: Mapping[str, Any]) -> dict[str, Any]:
    template = found["spec"]["jobTemplate"]["spec"] if found["kind"] == "CronJob" else found["spec"]
    spec: dict[str, Any] = template["template"]["spec"]
    return spec


def workloads() -> Iterator[dict[str, Any]]:
    for path in MANIFESTS:
        yield from (found for found in documents(path) if found["kind"] in ("Deployment", "StatefulSet", "CronJob"))


WORKLOADS = {f"{found['kind']} {found['metadata']['name']}": found for found in workloads()}
SERVE = manifest("base/deployment.yaml")
SERVER = pod(SERVE)["containers"][0]


def size(text: str) -> int:
    found = re.fullmatch(r"(\d+)([MG]i)", text)
    assert found is not None
    return int(found[1]) * UNITS[found[2]]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServeSettings:
    """The ConfigMaps' settings, as the server in the image reads them."""
    for name, value in stages((ROOT / "infra" / "Dockerfile").read_text())["serve"].environment.items():
        monkeypatch.setenv(name, value)
    for line in (FOLDER / "base" / "store.env").read_text().splitlines():
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, value)
    return ServeSettings.load(FOLDER / "base" / "serve.yaml")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return create_app(settings_for(tmp_path_factory.mktemp("app")))


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_manifest_is_what_kubernetes_takes_and_no_key_is_unknown(path: Path, version: str) -> None:
    found = documents(path)
    assert found
    for document in found:
        kubernetes_validate.validate(document, version, strict=True)


def test_a_misspelt_key_is_found() -> None:
    wrong = manifest("base/service.yaml")
    wrong["spec"]["trafficDistributions"] = "PreferSameZone"
    with pytest.raises(kubernetes_validate.ValidationError, match="trafficDistributions"):
        kubernetes_validate.validate(wrong, OLDEST, strict=True)


def test_every_file_is_part_of_an_installation_and_every_part_is_a_file() -> None:
    for file in FOLDER.rglob("kustomization.yaml"):
        (kustomization,) = documents(file)
        named = {name for name in kustomization.get("resources", []) if not name.startswith("..")}
        for generated in kustomization.get("configMapGenerator", []):
            named |= {*generated.get("files", []), *generated.get("envs", [])}
        others = [name for key in ("resources", "components") for name in kustomization.get(key, [])]
        assert {path.name for path in file.parent.iterdir()} == named | {"kustomization.yaml"}
        assert [name for name in others if not (file.parent / name).exists()] == []


def test_the_settings_are_the_servers_and_fit_what_the_pod_has(settings: ServeSettings) -> None:
    assert settings.store.startswith("s3://")
    assert (settings.host, settings.port) == ("0.0.0.0", SERVER["ports"][0]["containerPort"])
    # In the file they would do nothing, because the image's environment wins.
    assert not {"host", "port"} & yaml.safe_load((FOLDER / "base" / "serve.yaml").read_text()).keys()
    assert str(settings.search.threads) == SERVER["resources"]["requests"]["cpu"]
    assert settings.identity.required
    mounts = {mount["mountPath"]: mount["name"] for mount in SERVER["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(SERVE)["volumes"]}
    assert mounts[str(settings.cache)] == "cache"
    assert mounts[str(settings.audit.folder)] == "audit"
    assert settings.audit.signing_key is not None
    assert mounts[str(settings.audit.signing_key.parent)] == "signing-key"
    assert settings.cache_max_bytes * 1.2 <= size(volumes["cache"]["emptyDir"]["sizeLimit"])
    env = {entry["name"]: entry["value"] for entry in SERVER["env"]}
    assert mounts[str(Path(env["GREBE_CONFIG"]).parent)] == "settings"
    assert Path(env["GREBE_CONFIG"]).name == "serve.yaml"


def test_records_are_in_the_bucket_before_a_call_is_answered_where_the_folder_goes_with_the_pod(
    settings: ServeSettings,
) -> None:
    volumes = {volume["name"]: volume for volume in pod(SERVE)["volumes"]}
    assert "emptyDir" in volumes["audit"]
    assert settings.audit.durability == "remote"


def test_volumes_that_go_with_the_pod_and_its_log_are_within_what_it_asks_for() -> None:
    for found in WORKLOADS.values():
        limits = [volume["emptyDir"]["sizeLimit"] for volume in pod(found)["volumes"] if "emptyDir" in volume]
        (container,) = pod(found)["containers"]
        for asked in ("requests", "limits"):
            assert sum(map(size, limits)) + LOG_BYTES <= size(container["resources"][asked]["ephemeral-storage"])


def test_probes_ask_what_the_server_answers(app: FastAPI) -> None:
    routes = {route.path for route in app.routes if isinstance(route, Route)} | set(app.openapi()["paths"])
    probes = {name: SERVER[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/startupz",
        "readiness": "/readyz",
        "liveness": "/livez",
    }
    assert {probe["path"] for probe in probes.values()} <= routes
    assert {probe["port"] for probe in probes.values()} == {SERVER["ports"][0]["name"]}


def test_the_ports_of_service_policy_and_image_are_the_servers() -> None:
    name, number = SERVER["ports"][0]["name"], SERVER["ports"][0]["containerPort"]
    assert manifest("base/service.yaml")["spec"]["ports"][0]["targetPort"] == name
    assert manifest("base/network-policy.yaml")["spec"]["ingress"][0]["ports"][0]["port"] == name
    assert stages((ROOT / "infra" / "Dockerfile").read_text())["serve"].last("EXPOSE").text == str(number)


def opened(policy: Mapping[str, Any]) -> set[tuple[str, int]]:
    """Return the addresses outside of the cluster to which a policy lets out, with the ports."""
    return {
        (to["ipBlock"]["cidr"], port["port"])
        for rule in policy["spec"]["egress"]
        for to in rule.get("to", [{"ipBlock": {"cidr": "anywhere"}}])
        for port in rule["ports"]
        if "ipBlock" in to
    }


def test_serving_gets_the_clouds_role_from_the_nodes_own_addresses_and_nothing_else_over_http() -> None:
    ways = opened(manifest("base/network-policy.yaml"))
    assert {address for address, port in ways if port == 80} == {
        "169.254.169.254/32",
        "fd00:ec2::254/128",
        "169.254.170.23/32",
        "fd00:ec2::23/128",
    }
    assert ("anywhere", 443) in ways
    for sync in ("sync-scheduled", "sync-continuous"):  # Spark reads tables from wherever they are
        assert manifest(f"{sync}/network-policy.yaml")["spec"]["policyTypes"] == ["Ingress"]


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
def test_the_example_shows_how_to_open_more(version: str) -> None:
    policy = manifest("base/network-policy.yaml")
    patches = [
        yaml.safe_load(patch["patch"])
        for patch in manifest("example/kustomization.yaml")["patches"]
        if patch["target"] == {"kind": policy["kind"], "name": policy["metadata"]["name"]}
    ]
    steps = [step for patch in patches for step in patch]
    assert {(step["op"], step["path"]) for step in steps} == {("add", "/spec/egress/-")}
    policy["spec"]["egress"] += [step["value"] for step in steps]
    kubernetes_validate.validate(policy, version, strict=True)
    assert ("169.254.20.10/32", 53) in opened(policy)
    assert 9000 in {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}


def test_a_pod_that_ends_drains_for_longer_than_it_takes_to_be_known_and_has_time_for_all_of_it(
    settings: ServeSettings,
) -> None:
    readiness = SERVER["readinessProbe"]
    noticed = readiness["periodSeconds"] * readiness["failureThreshold"] + readiness["timeoutSeconds"]
    assert settings.drain_seconds >= noticed + 5
    wanted = settings.drain_seconds + settings.shutdown_seconds + SLACK_SECONDS
    assert pod(SERVE)["terminationGracePeriodSeconds"] >= wanted
    assert "lifecycle" not in SERVER


def test_a_pod_that_is_slow_to_start_is_not_taken_for_dead() -> None:
    startup, liveness = SERVER["startupProbe"], SERVER["livenessProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 600
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60
    assert SERVE["spec"]["progressDeadlineSeconds"] > 600 + SERVE["spec"]["minReadySeconds"]


def test_selectors_select_the_servers_pods() -> None:
    labels = SERVE["spec"]["template"]["metadata"]["labels"]
    selectors = [
        SERVE["spec"]["selector"]["matchLabels"],
        manifest("base/service.yaml")["spec"]["selector"],
        manifest("base/disruption-budget.yaml")["spec"]["selector"]["matchLabels"],
        manifest("base/network-policy.yaml")["spec"]["podSelector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in pod(SERVE)["topologySpreadConstraints"]),
    ]
    assert [selector for selector in selectors if selector != labels] == []
    target = manifest("base/autoscaler.yaml")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (SERVE["kind"], SERVE["metadata"]["name"])


def test_pods_are_spread_over_zones_surely_and_over_hosts_as_far_as_it_goes_each_revision_by_itself() -> None:
    spreads = {spread["topologyKey"]: spread for spread in pod(SERVE)["topologySpreadConstraints"]}
    zones, hosts = spreads["topology.kubernetes.io/zone"], spreads["kubernetes.io/hostname"]
    assert (zones["whenUnsatisfiable"], hosts["whenUnsatisfiable"]) == ("DoNotSchedule", "ScheduleAnyway")
    for spread in spreads.values():
        assert (spread["maxSkew"], spread["nodeTaintsPolicy"]) == (1, "Honor")
        assert spread["matchLabelKeys"] == ["pod-template-hash"]
    # With as many as there are zones, the pods of a lost one could run nowhere.
    assert zones["minDomains"] == 2


def test_two_zones_of_three_carry_the_load_of_all_and_no_update_takes_a_pod_away() -> None:
    scaler = manifest("base/autoscaler.yaml")["spec"]
    assert scaler["minReplicas"] % 3 == 0
    assert scaler["minReplicas"] >= 6
    assert scaler["metrics"][0]["resource"]["target"]["averageUtilization"] * 3 / 2 <= 90
    assert SERVE["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert "replicas" not in SERVE["spec"]
    assert manifest("base/service.yaml")["spec"]["trafficDistribution"] == "PreferSameZone"


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_pod_may_do_nothing_that_it_need_not(name: str) -> None:
    spec = pod(WORKLOADS[name])
    (container,) = spec["containers"]
    user = stages((ROOT / "infra" / "Dockerfile").read_text())["runtime"].last("RUN").text
    context = spec["securityContext"]
    assert f"--uid {context['runAsUser']}" in user
    assert (context["runAsNonRoot"], context["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]
    claimed = {claim["metadata"]["name"] for claim in WORKLOADS[name]["spec"].get("volumeClaimTemplates", ())}
    volumes = {volume["name"] for volume in spec["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes | claimed


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_pods_command_is_one_of_grebes_and_its_image_is_built_here(name: str) -> None:
    (container,) = pod(WORKLOADS[name])["containers"]
    assert container["image"].removeprefix("grebe-") in stages((ROOT / "infra" / "Dockerfile").read_text())
    command, *options = container["args"]
    help_text = subprocess.run(
        [sys.executable, "-m", "jobs", command, "--help"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert [option for option in options if option.startswith("--") and option not in help_text] == []


def test_secrets_are_named_and_not_kept_here() -> None:
    assert not [path for path in MANIFESTS for found in documents(path) if found["kind"] == "Secret"]
    for found in WORKLOADS.values():
        (container,) = pod(found)["containers"]
        references = [reference["secretRef"]["name"] for reference in container["envFrom"] if "secretRef" in reference]
        assert references == ["grebe-store-credentials"]


def test_what_signs_in_at_a_source_is_in_the_syncs_pods_alone_where_the_connector_looks() -> None:
    having = {
        (name, volume["name"])
        for name, found in WORKLOADS.items()
        for volume in pod(found)["volumes"]
        if volume.get("secret", {}).get("secretName") == "grebe-source-credentials"
    }
    assert having == {("CronJob grebe-sync", "source"), ("Deployment grebe-sync", "source")}
    for name, volume in having:
        (container,) = pod(WORKLOADS[name])["containers"]
        (place,) = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == volume]
        assert {"name": "SNOWFLAKE_HOME", "value": place} in container["env"]
        assert [one["secret"]["optional"] for one in pod(WORKLOADS[name])["volumes"] if one["name"] == volume] == [True]
    for path in ("docs/kubernetes.md", "docs/snowflake.md"):
        assert "secret generic grebe-source-credentials" in (ROOT / path).read_text()
    assert f'private_key_file = "{place}/' in (ROOT / "docs" / "snowflake.md").read_text()


def test_syncs_do_not_overlap_and_one_that_hangs_ends() -> None:
    scheduled, continuous = (
        manifest("sync-scheduled/cron-job.yaml")["spec"],
        manifest("sync-continuous/deployment.yaml"),
    )
    assert scheduled["concurrencyPolicy"] == "Forbid"
    assert scheduled["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 0
    assert scheduled["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert (continuous["spec"]["replicas"], continuous["spec"]["strategy"]) == (1, {"type": "Recreate"})


def test_maintenance_purges_and_vacuums_every_collection_in_turn_and_no_two_runs_overlap() -> None:
    compact, vacuum = manifest("maintenance/compact.yaml"), manifest("maintenance/vacuum.yaml")
    for found in (compact, vacuum):
        assert found["spec"]["concurrencyPolicy"] == "Forbid"
        assert found["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 0
        assert pod(found)["serviceAccountName"] == manifest("maintenance/service-account.yaml")["metadata"]["name"]
    assert {"--all", "--purge"} <= set(pod(compact)["containers"][0]["args"])
    assert {"--all", "--yes"} <= set(pod(vacuum)["containers"][0]["args"])
    weekly, daily = compact["spec"]["schedule"].split(), vacuum["spec"]["schedule"].split()
    assert (weekly[2:], daily[2:]) == (["*", "*", "0"], ["*", "*", "*"])
    assert "../maintenance" in manifest("example/kustomization.yaml")["components"]
    for found in (compact, vacuum):  # the document's days are reckoned from these, and its crontab is the same
        (container,) = pod(found)["containers"]
        command = " ".join(container["args"]).replace("--output", "--store s3://bucket/search --output")
        line = f"{found['spec']['schedule']} cd /srv/grebe && .venv/bin/grebe {command} >>"
        assert line in (ROOT / "docs" / "erasure.md").read_text()


def test_nodes_and_routers_agree_on_parts_names_ports_and_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, service = manifest("nodes/stateful-set.yaml"), manifest("nodes/service.yaml")
    (container,) = pod(nodes)["containers"]
    parts, port = nodes["spec"]["replicas"], container["ports"][0]["containerPort"]
    env = {entry["name"]: entry for entry in container["env"]}
    assert env["GREBE_CLUSTER__SHARE"]["value"] == f"$(POD_INDEX)/{parts}"
    assert list(env).index("POD_INDEX") < list(env).index("GREBE_CLUSTER__SHARE")  # else it is not replaced in it
    kustomization = manifest("example-cluster/kustomization.yaml")
    (serving,) = kustomization["patches"]
    added = {step["value"]["name"]: step["value"] for step in yaml.safe_load(serving["patch"])}
    assert added["GREBE_CLUSTER__SECRET"]["valueFrom"] == env["GREBE_CLUSTER__SECRET"]["valueFrom"]
    for name, entry in added.items():
        monkeypatch.setenv(name, entry.get("value", "x" * 64))
    cluster = ServeSettings.load(FOLDER / "base" / "serve.yaml").cluster
    assert (cluster.role, cluster.parts) == ("router", parts)
    zones = [name for name in kustomization["resources"] if not name.startswith("..")]
    suffixes = [manifest(f"example-cluster/{zone}/kustomization.yaml")["nameSuffix"] for zone in zones]
    name = service["metadata"]["name"]
    assert nodes["spec"]["serviceName"] == name
    assert cluster.addresses(3) == [f"http://{name}{suffix}-3.{name}{suffix}:{port}" for suffix in suffixes]
    assert service["spec"]["ports"][0]["port"] == port
    (opening,) = manifest("routers/kustomization.yaml")["patches"]
    (way,) = yaml.safe_load(opening["patch"])
    labels = nodes["spec"]["template"]["metadata"]["labels"]
    assert way["value"] == {
        "to": [{"podSelector": {"matchLabels": labels}}],
        "ports": [{"port": port, "protocol": "TCP"}],
    }


def test_a_nodes_settings_fit_what_its_pod_has(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = manifest("nodes/stateful-set.yaml")
    (container,) = pod(nodes)["containers"]
    monkeypatch.setenv("GREBE_CLUSTER__SHARE", "3/4")
    monkeypatch.setenv("GREBE_CLUSTER__SECRET", "x" * 64)
    settings = ServeSettings.load(FOLDER / "nodes" / "serve.yaml")
    assert settings.cluster.role == "node"
    assert str(settings.search.threads) == container["resources"]["requests"]["cpu"]
    (claim,) = nodes["spec"]["volumeClaimTemplates"]
    assert settings.cache_max_bytes * 1.2 <= size(claim["spec"]["resources"]["requests"]["storage"])
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts[str(settings.cache)] == claim["metadata"]["name"]
    wanted = settings.drain_seconds + settings.shutdown_seconds + SLACK_SECONDS
    assert pod(nodes)["terminationGracePeriodSeconds"] >= wanted


def test_no_policy_is_among_what_gets_a_zones_label_as_a_selector() -> None:
    """Else the label becomes part of whom it lets in, and of where it lets out: of kube-dns's pods, which have none."""
    for kustomization in FOLDER.rglob("kustomization.yaml"):
        (found,) = documents(kustomization)
        if any(label.get("includeSelectors") for label in found.get("labels", ())):
            below = [kustomization.parent / name for name in found["resources"]]
            assert [path for folder in below for path in folder.glob("*network-policy*")] == []
