"""Files and functions stay small, and are named after things of the domain."""

from __future__ import annotations

import ast

from tests.rules.tree import CODE, ROOT, files, nodes, parsed, python_files

FILE_LINES = 400
FUNCTION_LINES = 60
SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc", "core", "shared"}


def test_files_are_short() -> None:
    lengths = {path: (ROOT / path).read_text().count("\n") for path in python_files(*CODE, "tests")}
    assert lengths
    assert {path: lines for path, lines in lengths.items() if lines > FILE_LINES} == {}


def test_functions_are_short() -> None:
    long = [
        f"{path}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path in python_files(*CODE, "tests")
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES
    ]
    assert long == []


def test_names_say_something() -> None:
    words = {path: set(path.removesuffix(".py").replace("/", "_").split("_")) for path in python_files(*CODE, "tests")}
    assert {path for path, of in words.items() if of & SAY_NOTHING} == set()


def test_every_module_says_what_it_decides() -> None:
    silent = [
        path for path in python_files(*CODE, "tests") if parsed(path).body and not ast.get_docstring(parsed(path))
    ]
    assert silent == []


def test_no_test_uses_mocks() -> None:
    mocking = [
        path
        for path in python_files(*CODE, "tests")
        for node in nodes(path)
        if (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[:2] in (["unittest", "mock"], ["mock"]))
        or (isinstance(node, ast.ImportFrom) and node.module == "unittest" and node.names[0].name == "mock")
        or (isinstance(node, ast.Import) and any(name.name in ("unittest.mock", "mock") for name in node.names))
    ]
    assert mocking == []


def test_every_process_names_a_test_the_same() -> None:
    """Tests run in several processes, which refuse to begin where one has an id that is drawn while it is read."""
    drawn = [
        f"{path}:{call.lineno}"
        for path in python_files("tests")
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for decorator in node.decorator_list
        for call in ast.walk(decorator)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ("new_id", "uuid4")
    ]
    assert drawn == []


def test_nothing_is_left_for_later() -> None:
    # Put together here so that this file does not find itself.
    markers = ["TO" + "DO", "FIX" + "ME", "X" + "XX", "NotImplemented" + "Error"]
    found = [
        f"{path}: {marker}"
        for path in files()
        if path.endswith((".py", ".md", ".yml", ".toml", ".conf", ".Dockerfile", "Makefile", "run"))
        for marker in markers
        if marker in (ROOT / path).read_text()
    ]
    assert found == []


def test_a_cancellation_is_never_swallowed() -> None:
    """``asyncio.wait_for`` loses one that comes at the wrong moment (kit/tasks.py)."""
    users = [path for path in files() if path.endswith(".py") and not path.startswith("tests/")]
    assert [path for path in users if "asyncio.wait_for(" in (ROOT / path).read_text()] == []


def test_the_kit_is_a_closed_list() -> None:
    """What is shared by everybody grows by decision (docs/adr/0003), not by habit."""
    kit = {path.removeprefix("kit/").removesuffix(".py") for path in files() if path.startswith("kit/")}
    named = (
        "auth/api_keys auth/browser_session auth/bus_token auth/caller_first auth/fair_requests auth/host_guard "
        "auth/loop_time_shares auth/mapped_credential auth/own_page auth/portal_link "
        "auth/principal auth/quota_metrics auth/quotas auth/revocation auth/sealed_box auth/tickets "
        "bus/audit_log bus/connection bus/dead_letter_writer bus/dead_letters bus/event_store bus/idempotency "
        "bus/jetstream_api bus/leader_reads bus/lease bus/lineage bus/message_size bus/newest_message "
        "bus/publish_record bus/recorded_act "
        "bus/service_requests bus/stored_event bus/stream_copies bus/stream_room bus/tail "
        "bus/telemetry_consumer bus/tenant_erasures "
        "history/archive_access history/archive_reader history/crc32c history/dead_letter_events history/event_lines "
        "history/history history/manifest history/nats_archive history/nats_archive_reader history/segment_store "
        "history/older_events history/segments history/stream_reader "
        "history/subjects "
        "http/app_state http/attribution http/body_limit http/connection_channel http/head_requests http/health "
        "http/logged_path http/message_limit "
        "http/openapi http/passed_connections http/path_ids http/point_in_time http/problems http/protocol "
        "http/raw_answers http/readiness http/request_body http/request_target http/server "
        "http/socket_protocol http/traced_requests "
        "network/address_guard network/download network/guarded_post network/guarded_session "
        "network/metered_socket network/name_lookup network/response_protocol network/urls network/whole_body "
        "bucket bucket_inventory counts early_stop imports logs otlp_export process_tree projection_file s3_client "
        "service_metrics settings slot_pool snapshot_store source_version stacks stop_deadline tasks tracing"
    )
    assert {path for path in kit if not path.endswith("__init__")} == set(named.split())
