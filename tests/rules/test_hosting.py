"""The recipes of docs/hosting.md say what docker-compose.yml and the images say: commands, ports, variables, limits."""

from __future__ import annotations

import importlib.util
import re
import shutil
import socket
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from kit.settings import inherited_environment
from tests.rules.test_compose_settings import READ_BY_OTHERS, read_by
from tests.rules.tree import ROOT, files

DEPLOY = ROOT / "deploy"
KUBERNETES, SYSTEMD = DEPLOY / "kubernetes", DEPLOY / "systemd"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
SERVICES = ("gateway", "dispatcher", "notifier")
NATS = {f"NATS_{user}{kind}" for user in ("", "OPERATOR_", "REPLAYER_") for kind in ("USER", "PASSWORD")}
ORIGIN = {"ORIGIN_GATEWAY", "ORIGIN_NOTIFIER", "ORIGIN_LISTEN"}


@cache
def image(service: str) -> dict[str, str]:
    """Return what a Dockerfile says of its container: port, command and variables."""
    text = (DEPLOY / "docker" / f"{service}.Dockerfile").read_text()
    (port,) = re.findall(r"^EXPOSE (\d+)$", text, re.MULTILINE)
    (command,) = re.findall(r"^CMD \[(.*?)\]$", text, re.MULTILINE | re.DOTALL)
    return {"port": port, "command": " ".join(re.findall(r'"([^"]*)"', command))}


@cache
def resources() -> list[dict[str, Any]]:
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert {*listed, "kustomization.yaml", "nats-values.yaml"} == {path.name for path in KUBERNETES.iterdir()}
    return [found for name in listed for found in yaml.safe_load_all((KUBERNETES / name).read_text())]


def named(kind: str) -> dict[str, dict[str, Any]]:
    return {found["metadata"]["name"]: found for found in resources() if found["kind"] == kind}


def unit(name: str) -> dict[str, list[str]]:
    """Return the values of each key of a unit."""
    found: dict[str, list[str]] = {}
    for line in (SYSTEMD / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def environment_file(name: str) -> dict[str, str]:
    lines = (SYSTEMD / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_the_page_names_every_recipe() -> None:
    page = (ROOT / "docs/hosting.md").read_text()
    recipes = [path for path in files() if re.fullmatch(r"render\.yaml|deploy/(compose\.\w+\.yml|Caddyfile)", path)]
    assert len(recipes) > 4
    others = ["deploy/compose.operators.yml"]  # docs/operations.md
    assert [path for path in [*recipes, "deploy/kubernetes", "deploy/systemd"] if path not in page] == others


@pytest.mark.parametrize("service", [*SERVICES, "origin"])
def test_kubernetes_runs_the_images_of_compose(service: str) -> None:
    pod = named("Deployment")[service]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == COMPOSE[service]["image"]
    assert "command" not in container
    assert [str(port["containerPort"]) for port in container["ports"]] == [image(service)["port"]]
    assert named("Service")[service]["spec"]["ports"][0]["port"] == int(image(service)["port"])
    health = ("/origin-health", "/origin-health") if service == "origin" else ("/ready", "/health")
    probes = [container[kind]["httpGet"] for kind in ("readinessProbe", "livenessProbe")]
    assert (probes[0]["path"], probes[1]["path"]) == health
    assert "startupProbe" not in container, "a service that reads a long history would be started again and again"
    limit = re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", str(COMPOSE[service]["mem_limit"]))
    assert container["resources"]["limits"]["memory"].lower() == f"{limit}i"
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize("service", [*SERVICES, "origin"])
def test_kubernetes_gives_no_more_rights_than_compose(service: str) -> None:
    deployment = named("Deployment")[service]["spec"]
    pod = deployment["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    budget = named("PodDisruptionBudget")[service]["spec"]
    assert budget["selector"] == deployment["selector"]
    assert deployment["replicas"] > budget["minAvailable"]


def test_kubernetes_sets_what_the_services_read() -> None:
    settings = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    (generated,) = settings["configMapGenerator"]
    names = {literal.partition("=")[0] for literal in generated["literals"]}
    assert sorted(names - set().union(*map(read_by, SERVICES))) == []
    origin = named("Deployment")["origin"]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {entry["name"] for entry in origin} <= ORIGIN
    assert [entry["value"].split(".")[0] for entry in origin] == ["gateway", "notifier"]
    assert {entry["name"] for entry in settings["images"]} == {COMPOSE[name]["image"] for name in (*SERVICES, "origin")}
    page = (ROOT / "docs/hosting.md").read_text()
    secrets = set(re.findall(r"(?:secretRef: \{name|secretName): ([\w-]+)", "".join(_texts())))
    assert sorted(name for name in secrets if f"`{name}`" not in page) == []


def _texts() -> list[str]:
    return [path.read_text() for path in sorted(KUBERNETES.iterdir())]


def test_only_the_origin_is_reached_from_outside() -> None:
    policies = named("NetworkPolicy")
    assert policies["deny-by-default"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    open_to_all = [
        name for name, found in policies.items() for rule in found["spec"].get("ingress", []) if "from" not in rule
    ]
    assert open_to_all == ["origin"]
    (rule,) = named("Ingress")["origin"]["spec"]["rules"]
    assert rule["http"]["paths"][0]["backend"]["service"]["name"] == "origin"


def test_nats_of_kubernetes_has_the_settings_of_the_cluster() -> None:
    values = yaml.safe_load((KUBERNETES / "nats-values.yaml").read_text())
    config = values["config"]
    cluster = (DEPLOY / "nats_cluster.conf").read_text()
    stated = {
        "max_payload": config["merge"]["max_payload"].strip("<> "),
        "max_file_store": config["jetstream"]["merge"]["max_file_store"].strip("<> "),
        "sync_interval": config["jetstream"]["merge"]["sync_interval"],
        "name": config["cluster"]["merge"]["name"],
        "no_advertise": str(config["cluster"]["merge"]["no_advertise"]).lower(),
        "verify": str(config["cluster"]["tls"]["merge"]["verify"]).lower(),
    }
    assert {key: re.search(rf"\b{key}: (\S+)", cluster)[1] for key in stated} == stated  # type: ignore[index]
    assert config["cluster"]["replicas"] == 3
    assert values["container"]["image"]["tag"] == COMPOSE["nats"]["image"].partition(":")[2]
    assert values["container"]["env"].keys() == NATS
    assert set(re.findall(r"\$(NATS_\w+)", (DEPLOY / "nats_users.conf").read_text())) == NATS


def test_the_manifests_are_valid_by_the_schemas() -> None:
    """Where a validator and kubectl are; CI has both (.github/workflows/ci.yml)."""
    if not (shutil.which("kubectl") and importlib.util.find_spec("kubernetes_validate")):
        pytest.skip("no kubectl or no kubernetes-validate")
    rendered = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES)], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    validate = importlib.import_module("kubernetes_validate").validate
    found = list(yaml.safe_load_all(rendered))
    assert len(found) == len(resources()) + 1
    for resource in found:
        validate(resource, "1.32", strict=True)


@pytest.mark.parametrize("service", SERVICES)
def test_systemd_runs_the_commands_of_the_images(service: str) -> None:
    found = unit(f"saccade-{service}.service")
    assert found["ExecStart"] == [f"/opt/saccade/.venv/bin/{image(service)['command']}"]
    own = dict(pair.split("=") for line in found["Environment"] for pair in line.split())
    assert own[f"{service.upper()}_PORT"] == image(service)["port"]
    assert sorted(own.keys() - read_by(service)) == []
    assert (found["User"], found["NoNewPrivileges"], found["ProtectSystem"]) == (["saccade"], ["true"], ["strict"])
    limit = re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", str(COMPOSE[service]["mem_limit"]))
    assert found["MemoryMax"] == [limit.upper()]


def test_the_files_of_systemd_set_what_is_read() -> None:
    assert sorted(environment_file("saccade.env").keys() - set().union(*map(read_by, SERVICES))) == []
    assert sorted(environment_file("notifier.env").keys() - read_by("notifier")) == []
    assert environment_file("nats.env").keys() == NATS
    secrets = {**environment_file("saccade.env"), **environment_file("notifier.env"), **environment_file("nats.env")}
    named_secrets = {name for name in secrets if re.search(r"PASSWORD|SECRET|_KEY$|KEY_ID", name)}
    assert {name for name in named_secrets if not secrets[name].startswith("change-me")} == set()
    wanted = unit("saccade.target")["Wants"][0].split()
    assert {path.name for path in SYSTEMD.glob("*.service")} == set(wanted)


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze")
    for path in [*SYSTEMD.glob("*.service"), SYSTEMD / "saccade.target"]:
        text = re.sub(r"(ExecStart|ExecReload)=\S+", r"\1=/bin/true", path.read_text())
        (tmp_path / path.name).write_text(text.replace("file:///opt/saccade/", f"file://{ROOT}/"))
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "saccade" in line]
    assert (done.returncode, ours) == (0, [])


def test_render_builds_the_images_and_sets_what_is_read() -> None:
    blueprint = yaml.safe_load((ROOT / "render.yaml").read_text())
    groups = {group["name"]: group["envVars"] for group in blueprint["envVarGroups"]}
    services = {found["name"]: found for found in blueprint["services"]}
    assert services.keys() == {f"saccade-{name}" for name in (*SERVICES, "origin", "nats")}
    assert [name for name, found in services.items() if found["type"] == "web"] == ["saccade-origin"]
    assert services["saccade-origin"]["healthCheckPath"] == "/origin-health"
    assert [entry for entries in groups.values() for entry in entries if "sync" in entry] == [], "Render ignores it"
    for name, found in services.items():
        service = name.removeprefix("saccade-")
        assert found["dockerfilePath"] == f"./deploy/docker/{service}.Dockerfile"
        given = {entry["key"]: entry for entry in found["envVars"] if "key" in entry}
        assert given.pop("PORT")["value"] == image(service)["port"]
        for entry in found["envVars"]:
            given |= {one["key"]: one for one in groups.get(entry.get("fromGroup"), [])}
        others = {"origin": ORIGIN, "nats": NATS}
        assert sorted(given.keys() - (others.get(service) or read_by(service) | READ_BY_OTHERS)) == []
        for entry in given.values():
            if source := entry.get("fromService"):
                target = services[source["name"]]
                assert target["type"] == source["type"]
                assert "property" in source or source["envVarKey"] in {one.get("key") for one in target["envVars"]}


def test_the_proxy_for_tls_is_confined_and_gets_what_its_file_reads() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.tls.yml").read_text())["services"]["tls"]
    caddyfile = (DEPLOY / "Caddyfile").read_text()
    assert set(re.findall(r"\{\$(\w+)", caddyfile)) == compose["environment"].keys()
    modes = set(re.findall(r"^\((\w+)\)", caddyfile, re.MULTILINE))
    assert modes == {"acme", "files", "internal"}
    assert (compose["read_only"], compose["cap_drop"], compose["cap_add"]) == (True, ["ALL"], ["NET_BIND_SERVICE"])
    assert re.search(r":\d+\.\d+", compose["image"])
    if shutil.which("caddy"):
        names = {"SACCADE_DOMAIN": "a.example", "SACCADE_BUCKET_DOMAIN": "b.example", "SACCADE_TLS": "internal"}
        subprocess.run(
            ["caddy", "validate", "--adapter", "caddyfile", "--config", str(DEPLOY / "Caddyfile")],
            env=inherited_environment() | names, check=True, capture_output=True, timeout=120,
        )  # fmt: skip


def test_the_page_makes_a_proxy_of_one_site_for_a_server_with_a_providers_bucket(tmp_path: Path) -> None:
    (command,) = re.findall(
        r"^sed '(.*)' /opt/saccade/deploy/Caddyfile", (ROOT / "docs/hosting.md").read_text(), re.MULTILINE
    )
    done = subprocess.run(
        ["sed", command, str(DEPLOY / "Caddyfile")], check=True, capture_output=True, text=True, timeout=60
    )
    assert set(re.findall(r"\{\$(\w+)", done.stdout)) == {"SACCADE_DOMAIN", "SACCADE_TLS", "SACCADE_ORIGIN"}
    if shutil.which("caddy"):
        (tmp_path / "Caddyfile").write_text(done.stdout)
        subprocess.run(
            ["caddy", "validate", "--adapter", "caddyfile", "--config", str(tmp_path / "Caddyfile")],
            env=inherited_environment() | {"SACCADE_DOMAIN": "a.example"}, check=True, capture_output=True, timeout=120,
        )  # fmt: skip


@pytest.mark.skipif(not shutil.which("nginx"), reason="needs nginx")
def test_the_origin_starts_where_its_output_is_a_socket(tmp_path: Path) -> None:
    """As systemd's units have it, which nginx cannot open by its name."""
    configuration = (DEPLOY / "origin.conf").read_text().replace("include /etc/saccade/", f"include {DEPLOY}/")
    (tmp_path / "given.conf").write_text(configuration)
    nginx = tmp_path / "nginx"
    nginx.write_text(f'#!/bin/sh\nexec {shutil.which("nginx")} -t "$@"\n')
    nginx.chmod(0o755)
    environment = inherited_environment(("PATH",)) | {
        "TMPDIR": str(tmp_path), "ORIGIN_CONFIGURATION": str(tmp_path / "given.conf"),
        "ORIGIN_GATEWAY": "127.0.0.1:1", "ORIGIN_NOTIFIER": "127.0.0.1:2",
    }  # fmt: skip
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    mine, output = socket.socketpair()
    with mine, output:
        command = [str(DEPLOY / "origin.sh")]
        done = subprocess.run(
            command, env=environment, stdout=output, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert done.returncode == 0, done.stderr
    assert "access_log syslog:server=unix:/run/systemd/journal/dev-log," in (tmp_path / "origin.conf").read_text()


def test_the_origin_finds_services_at_other_addresses(tmp_path: Path) -> None:
    nginx = tmp_path / "nginx"
    nginx.write_text('#!/bin/sh\necho "$@" > "$TMPDIR/arguments"\n')
    nginx.chmod(0o755)
    environment = inherited_environment(("PATH",)) | {
        "TMPDIR": str(tmp_path), "ORIGIN_CONFIGURATION": str(DEPLOY / "origin.conf"),
        "ORIGIN_GATEWAY": "gateway.saccade.svc.cluster.local:8081", "ORIGIN_NOTIFIER": "10.0.0.9:1",
        "ORIGIN_LISTEN": "127.0.0.1:80",
    }  # fmt: skip
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    subprocess.run([str(DEPLOY / "origin.sh")], env=environment, check=True, timeout=60)
    written = (tmp_path / "origin.conf").read_text()
    assert "set $gateway gateway.saccade.svc.cluster.local:8081;" in written
    assert "set $notifier 10.0.0.9:1;" in written
    assert "listen 127.0.0.1:80;" in written
    assert re.search(r"resolver \S+ valid=2s ipv6=off;", written)
    assert f"-c {tmp_path}/origin.conf" in (tmp_path / "arguments").read_text()
