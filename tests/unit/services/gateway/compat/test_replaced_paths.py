"""Paths and credentials of replaced systems' clients: routed as the operator says, and seen by nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from kit.auth.mapped_credential import MAPPED_CREDENTIAL, MappedCredential
from kit.settings import invalid_settings
from services.gateway.compat.badminton.addresses import base_url
from services.gateway.compat.credentials import Presented, ReplacedCredentials
from services.gateway.compat.replaced_paths import SYSTEMS, ReplacedPaths, parse_path
from services.gateway.settings import ReplacedCredential, ReplacedCredentialSettings

SESAME, SECOND = "open sesame", "second=word&more"


def entry(system: Any, key: str, word: str | None = None) -> ReplacedCredential:
    return ReplacedCredential(system=system, key=key, word=None if word is None else SecretStr(word))


def credentials(*entries: ReplacedCredential, authenticated: bool = True) -> ReplacedCredentials:
    return ReplacedCredentials(entries, authenticated=authenticated)


class Recorder:
    """Application that keeps the scope."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002
        self.scope = dict(scope)


async def passed(
    path: str, *headers: tuple[str, str], query: str = "", mapping: ReplacedCredentials | None = None
) -> dict[str, Any]:
    """Return the scope in which an application sees a request."""
    raw = [(name.encode(), value.encode()) for name, value in (("host", "h.example"), *headers)]
    app = Recorder()
    scope = {
        "type": "http", "method": "GET", "scheme": "http", "path": path, "raw_path": path.encode(),
        "query_string": query.encode(), "headers": raw,
    }  # fmt: skip
    await ReplacedPaths(app, mapping or credentials())(scope, None, None)  # type: ignore[arg-type]
    return app.scope


@pytest.mark.parametrize(
    ("path", "system", "routed", "base"),
    [
        ("/compat/vision/vision/stream", "vision", "/compat/vision/vision/stream", "/compat/vision"),
        ("/compat/vision/health", "vision", "/compat/vision/health", "/compat/vision"),
        ("/vision/stream", "vision", "/compat/vision/vision/stream", ""),
        ("/poke/send", "vision", "/compat/vision/poke/send", ""),
        ("/compat/laps/start-job", "laps", "/compat/laps/start-job", "/compat/laps"),
        ("/sign-upload", "laps", "/compat/laps/sign-upload", ""),
        ("/jobs/job_1", "laps", "/compat/laps/jobs/job_1", ""),
        ("/compat/splat/health", "splat", "/health", "/compat/splat"),
        ("/compat/splat/upload-frame", "splat", "/upload-frame", "/compat/splat"),
        ("/upload-frame", "splat", "/upload-frame", ""),
        ("/compat/nerf/api/nerf/train/status/a", "nerf", "/api/nerf/train/status/a", "/compat/nerf"),
        ("/api/nerf/frames/a/17", "nerf", "/api/nerf/frames/a/17", ""),
        ("/compat/nerf/api/nerf/colmap", "nerf", "/api/nerf/colmap", "/compat/nerf"),
        ("/compat/badminton/api/1.2/sync", "badminton", "/badminton/api/1.2/sync", "/compat/badminton"),
        ("/badminton/health", "badminton", "/badminton/health", "/badminton"),
        ("/badminton-endpoint", "badminton-endpoint", "/badminton-endpoint", "/badminton-endpoint"),
        ("/compat/badminton-endpoint/process", "badminton-endpoint", "/badminton-endpoint/process",
         "/compat/badminton-endpoint"),
    ],
)  # fmt: skip
def test_paths_of_replaced_systems(path: str, system: str, routed: str, base: str) -> None:
    found = parse_path(path)
    assert found
    assert (found.system, found.path, found.base, found.segment) == (system, routed, base, None)


@pytest.mark.parametrize(
    "path", ["/v1/jobs", "/health", "/compat/other/health", "/compat", "/visionx", "/x/badminton/k/a.b", "/badmintonx"]
)
def test_other_paths_are_not_theirs(path: str) -> None:
    assert parse_path(path) is None


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/v1/jobs", "/health", "/x/vision/stream"])
async def test_other_requests_stay_as_they_are(path: str) -> None:
    """A word opens nothing but the routes of its system."""
    mapping = credentials(entry("*", "glasses", SESAME), entry("vision", "anyone"))
    scope = await passed(path, ("x-magic-word", SESAME), query="magic_word=x", mapping=mapping)
    assert MAPPED_CREDENTIAL not in scope
    assert (scope["path"], scope["query_string"]) == (path, b"magic_word=x")


@pytest.mark.parametrize("path", ["/compat/splat/v1/jobs", "/compat/splat/metrics", "/compat/nerf/upload-frame"])
def test_a_base_path_leads_to_routes_of_its_system_only(path: str) -> None:
    found = parse_path(path)
    assert found
    assert found.path == path


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "routed"),
    [
        ("/badminton/k/a.b/api/1.2/sync", "/badminton/api/1.2/sync"),
        ("/badminton/k/a.b", "/badminton/"),
        ("/badminton-endpoint/k/a.b/process", "/badminton-endpoint/process"),
        ("/compat/badminton/k/a.b/health", "/badminton/health"),
        ("/compat/vision/k/a.b/vision/stream", "/compat/vision/vision/stream"),
        ("/compat/splat/k/a.b/upload-frame", "/upload-frame"),
    ],
)
async def test_a_key_leaves_the_path_before_anything_sees_it(path: str, routed: str) -> None:
    scope = await passed(path, ("authorization", "Bearer other"))
    assert (scope["path"], scope["raw_path"]) == (routed, routed.encode())
    assert [value for name, value in scope["headers"] if name == b"authorization"] == [b"Bearer a.b"]


@pytest.mark.anyio
async def test_a_client_s_url_is_the_one_it_was_given() -> None:
    scope = await passed("/compat/badminton/k/a.b/api/1.2/sync")
    assert base_url(scope) == "http://h.example/compat/badminton/k/a.b"


@pytest.mark.anyio
async def test_a_word_leaves_the_request_before_anything_sees_it() -> None:
    mapping = credentials(entry("vision", "glasses", SESAME))
    for headers, query in (
        ([("x-magic-word", SESAME)], "a=1"),
        ([], "a=1&magic_word=open+sesame"),
        ([], "magic%5Fword=open%20sesame&a=1"),
    ):
        scope = await passed("/vision/stream", *headers, query=query, mapping=mapping)
        assert scope[MAPPED_CREDENTIAL] == MappedCredential("glasses")
        assert scope["query_string"] == b"a=1"
        assert "sesame" not in repr({name: value for name, value in scope.items() if name != MAPPED_CREDENTIAL})
    scope = await passed("/compat/vision/k/open sesame/vision/stream", mapping=mapping)
    assert (scope[MAPPED_CREDENTIAL], scope["path"]) == (MappedCredential("glasses"), "/compat/vision/vision/stream")


REFUSED = MappedCredential(None)


@pytest.mark.parametrize("authenticated", [True, False])
@pytest.mark.parametrize(
    ("presented", "expected"),
    [
        (Presented(header=SESAME), MappedCredential("glasses")),
        (Presented(query=SESAME), MappedCredential("glasses")),
        (Presented(header=SECOND), MappedCredential("every")),
        (Presented(query="wrong"), REFUSED),
        (Presented(), REFUSED),
        # An empty header wins over the query, as in the replaced system.
        (Presented(header="", query=SESAME), REFUSED),
        (Presented(header="wrong", query=SESAME), REFUSED),
        (Presented(header=SESAME, query="wrong"), MappedCredential("glasses")),
    ],
)
def test_words(presented: Presented, expected: MappedCredential, authenticated: bool) -> None:
    mapping = credentials(
        entry("vision", "glasses", SESAME), entry("*", "every", SECOND), authenticated=authenticated
    )  # fmt: skip
    assert mapping.mapped("vision", presented) == expected


def test_a_word_of_one_system_opens_no_other() -> None:
    mapping = credentials(entry("vision", "glasses", SESAME))
    assert mapping.mapped("splat", Presented(header=SESAME)) is None


def test_without_a_mapping_clients_are_as_all_others() -> None:
    """Open without API keys, refused with them: a word means nothing."""
    for presented in (Presented(), Presented(header=SESAME), Presented(has_authorization=True)):
        assert credentials().mapped("vision", presented) is None


def test_clients_that_send_nothing_are_let_in_only_where_the_operator_says_so() -> None:
    mapping = credentials(entry("splat", "robot"), entry("vision", "glasses", SESAME), entry("vision", "guests"))
    assert mapping.mapped("splat", Presented()) == MappedCredential("robot", ambient=True)
    assert mapping.mapped("splat", Presented(header="anything")) == MappedCredential("robot", ambient=True)
    assert mapping.mapped("badminton", Presented()) is None
    assert mapping.mapped("vision", Presented()) == MappedCredential("guests", ambient=True)
    assert mapping.mapped("vision", Presented(query="wrong")) == REFUSED


def test_an_api_key_counts_where_keys_are_required() -> None:
    entries = (entry("vision", "glasses", SESAME), entry("splat", "robot"))
    assert credentials(*entries).mapped("vision", Presented(has_authorization=True)) is None
    assert credentials(*entries).mapped("splat", Presented(has_authorization=True)) is None
    assert credentials(*entries).mapped("vision", Presented(segment="a.b")) is None
    # Where none are, the header says nothing, so it must not open what a word closes.
    without_keys = credentials(*entries, authenticated=False)
    assert without_keys.mapped("vision", Presented(has_authorization=True)) == REFUSED
    assert without_keys.mapped("vision", Presented(segment="a.b")) == REFUSED


def test_the_setting_is_a_list_whose_words_stay_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "GATEWAY_REPLACED_CREDENTIALS"
    monkeypatch.setenv(name, '[{"system": "vision", "word": "canary, a=b", "key": "glasses"}]')
    (found,) = ReplacedCredentialSettings().replaced_credentials
    assert (found.secret_word, "canary" in repr(found)) == ("canary, a=b", False)
    for wrong in (
        "canary",
        '[{"system": "canary", "key": "k"}]',
        '[{"system": "vision", "word": "", "key": "k"}]',
        '[{"system": "vision", "word": "canary"}]',
        '[{"system": "vision", "word": "canary", "key": "a"}, {"system": "vision", "word": "canary", "key": "b"}]',
    ):
        monkeypatch.setenv(name, wrong)
        with pytest.raises(ValidationError) as refused:
            ReplacedCredentialSettings()
        said = invalid_settings(refused.value)
        assert said.startswith(name)
        assert "canary" not in said


def test_every_system_can_be_named_in_the_setting() -> None:
    for name in SYSTEMS:
        assert entry(name, "k").system == name
