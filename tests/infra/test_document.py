"""docs/kubernetes.md: its files, settings and commands are those that there are."""

from __future__ import annotations

import re
import subprocess
import sys

import yaml

from tests.infra.dockerfile import ROOT, stages

TEXT = (ROOT / "docs" / "kubernetes.md").read_text()
(COMMANDS,) = re.findall(r"^```sh\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)


def test_files_that_it_names_are_there() -> None:
    named = set(re.findall(r"\b(?:tests/)?infra/[\w./-]+\w", TEXT)) - {"infra/kubernetes/production"}
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_its_secrets_are_those_that_the_pods_mount() -> None:
    manifests = "".join(path.read_text() for path in (ROOT / "infra" / "kubernetes").rglob("*.yaml"))
    (secret, file) = re.findall(r"secret generic (\S+) --from-file=(\S+)", COMMANDS)[0]
    assert f"secretName: {secret}" in manifests
    assert f"/{file}" in manifests
    assert "grebe-store-credentials" in manifests
    assert re.findall(r"label namespace \w+ (\S+)=true", COMMANDS)[0] in manifests


def test_the_images_that_it_builds_are_stages_of_the_file() -> None:
    tags = re.findall(r"-t grebe-(\w+):", COMMANDS)
    assert tags == ["serve", "sync"]
    assert set(tags) <= stages((ROOT / "infra" / "Dockerfile").read_text()).keys()


def test_its_grebe_commands_take_the_options_that_it_gives() -> None:
    for line in re.findall(r"^grebe (.*)$", COMMANDS, flags=re.MULTILINE):
        words = line.split("#")[0].split()
        called = [word for word in words[:2] if not word.startswith("-")]
        help_text = subprocess.run(
            [sys.executable, "-m", "jobs", *called, "--help"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        assert [word for word in words if word.startswith("-") and word not in help_text] == []


def test_the_scraper_gives_the_labels_that_alerts_use_and_finds_the_pods() -> None:
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    (scrape,) = yaml.safe_load(shown)["scrape_configs"]
    given = {rule["target_label"] for rule in scrape["relabel_configs"] if "target_label" in rule}
    assert (scrape["job_name"], given) == ("grebe", {"instance", "zone"})
    kept = [rule["regex"] for rule in scrape["relabel_configs"] if rule.get("action") == "keep"]
    deployment = (ROOT / "infra" / "kubernetes" / "base" / "deployment.yaml").read_text()
    assert f"labels: {{app.kubernetes.io/name: {kept[0]}}}" in deployment
    assert f"name: {kept[1]}, containerPort" in deployment


def test_the_numbers_that_it_gives_are_the_manifests() -> None:
    serve = yaml.safe_load((ROOT / "infra" / "kubernetes" / "base" / "serve.yaml").read_text())
    assert f"answers for {serve['drain_seconds']} seconds more" in TEXT
    assert f"under way {serve['shutdown_seconds']} seconds" in " ".join(TEXT.split())
    assert f"`identity.trust_seconds`, {serve['identity']['trust_seconds']} here" in TEXT
    deployment = yaml.safe_load((ROOT / "infra" / "kubernetes" / "base" / "deployment.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    disk = pod["containers"][0]["resources"]["requests"]["ephemeral-storage"]
    assert f"{disk.removesuffix('Gi')} GiB of the node's disk" in TEXT
    rest = pod["terminationGracePeriodSeconds"] - serve["drain_seconds"] - serve["shutdown_seconds"]
    assert f"draining, shutting down and {rest} seconds" in TEXT
    assert f"shutdown_seconds, and {rest} seconds" in (ROOT / "infra/kubernetes/base/deployment.yaml").read_text()
    rules = (ROOT / "infra" / "prometheus-rules.yaml").read_text()
    assert "> bool 900" in rules
    tried = yaml.safe_load((ROOT / "tests" / "infra" / "alerts.yaml").read_text())["tests"]
    fired = {alert["alertname"] for one in tried for alert in one["alert_rule_test"] if alert["exp_alerts"]}
    assert (len(fired), "six of them fired" in TEXT) == (6, True)
    assert "the one line that says 900" in " ".join(TEXT.split())
