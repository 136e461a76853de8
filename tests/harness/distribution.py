"""Distribution of test files over pytest-xdist's processes: two lanes, longest files first.

Tests that load OpenCV, PyTorch or COLMAP, or that keep a processor busy otherwise, run in one process: the heavy lane.
All others mostly wait for servers and run in the remaining processes. A process collects the files of its lane only,
so that only one loads the large libraries (tests/rules/test_distribution.py checks the list).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

#: Files and folders of the heavy lane.
HEAVY = (
    "tests/unit/modal_workers",
    "tests/unit/simulators",
    "tests/unit/cli/calibrate",
    "tests/unit/contracts/test_archive.py",
    "tests/contract/gateway/test_nerf_uploads.py",
    "tests/contract/pages/test_nerf_pages.py",
    "tests/contract/sessions/test_live_splat_session.py",
    "tests/contract/sessions/test_vision_stream_model.py",
    "tests/system/test_bad_input.py",
    "tests/system/test_nerf_bad_input.py",
    "tests/system/test_vision_clients.py",
)
#: The heavy lane computes for as long as the whole run takes on two cores: it gets a core, and those that mostly wait
#: share the other. Without priority it got half of one and was alone, on one core of two, for the rest of the time.
NICENESS_OF_LIGHT = 5
#: Seconds that the longest files take; they start first. Only the order matters: measure again with --durations=0.
SECONDS = {
    "tests/system/test_compose.py": 133,
    "tests/system/test_embedded_job.py": 103,
    "tests/system/test_demo_nerf.py": 70,
    "tests/system/test_demo_badminton.py": 55,
    "tests/unit/modal_workers/badminton/test_job_bad_input.py": 54,
    "tests/contract/sessions/test_vision_stream_session.py": 45,
    "tests/unit/modal_workers/nerf/poses/test_poses.py": 66,
    "tests/system/test_nerf_kills.py": 63,
    "tests/contract/executors/test_modal_deploy.py": 60,
    "tests/flow/test_modal_crash_points.py": 55,
    "tests/contract/runtime/test_runs.py": 51,
    "tests/contract/executors/test_executor.py": 50,
    "tests/system/test_badminton_endpoint_kills.py": 46,
    "tests/system/test_readme.py": 44,
    "tests/contract/runtime/test_bus_access.py": 43,
    "tests/flow/test_modal_dispatch.py": 42,
    "tests/contract/gateway/test_openapi.py": 30,
    "tests/contract/webhooks/test_webhook_api.py": 30,
    "tests/contract/gateway/test_http.py": 25,
    "tests/contract/sessions/test_live_splat_session.py": 39,
    "tests/contract/runtime/test_session_worker.py": 38,
    "tests/system/test_bad_input.py": 37,
    "tests/system/test_vision_clients.py": 30,
    "tests/system/test_vision_kills.py": 45,
    "tests/system/test_nerf_bad_input.py": 37,
    "tests/contract/clients/test_client_js_events.py": 29,
    "tests/contract/executors/test_modal_executor.py": 29,
    "tests/contract/runtime/test_file_cache.py": 24,
    "tests/unit/modal_workers/badminton/test_job_resumption.py": 22,
    "tests/flow/test_gpu_market.py": 20,
    "tests/contract/gateway/test_url_inputs.py": 15,
    "tests/contract/gateway/test_compat_badminton.py": 15,
    "tests/contract/pages/test_session_page.py": 15,
    "tests/unit/modal_workers/badminton/players/test_motion_backend.py": 14,
    "tests/unit/modal_workers/badminton/test_job.py": 14,
    "tests/contract/clients/test_client_js.py": 13,
    "tests/contract/streams/test_sse_clients.py": 12,
    "tests/contract/streams/test_sse_delivery.py": 12,
    "tests/contract/gateway/test_uploads.py": 12,
    "tests/flow/test_pipeline_service.py": 11,
    "tests/contract/sessions/test_session_export.py": 11,
    "tests/contract/pages/test_nerf_pages.py": 11,
    "tests/flow/test_modal_session.py": 10,
    "tests/unit/modal_workers/badminton/players/test_tracking.py": 10,
    "tests/contract/clients/test_client.py": 10,
    "tests/contract/sessions/test_vision_stream_model.py": 10,
    "tests/contract/runtime/test_job_bus.py": 21,
    "tests/flow/test_callback_crashes.py": 23,
    "tests/system/test_chaos.py": 20,
    "tests/system/test_delivery_chaos.py": 19,
    "tests/unit/modal_workers/nerf/capture/test_preflight.py": 19,
    "tests/unit/cli/calibrate/test_calibration.py": 19,
    "tests/contract/executors/test_modal_entry.py": 18,
    "tests/flow/test_job_retention.py": 17,
    "tests/system/test_embedded_life.py": 17,
    "tests/contract/own_service/test_own_service.py": 28,
    "tests/contract/pages/test_event_reference_page.py": 17,
    "tests/contract/pages/test_reference_page.py": 17,
    "tests/contract/kit/test_tail.py": 16,
    "tests/unit/modal_workers/nerf/training/test_training.py": 16,
    "tests/unit/modal_workers/lap_compare/alignment/test_align.py": 16,
    "tests/unit/modal_workers/nerf/capture/test_capture.py": 15,
    "tests/unit/modal_workers/badminton/players/test_simulated_matches.py": 15,
    "tests/contract/runtime/test_events.py": 15,
    "tests/contract/gateway/test_jobs.py": 14,
    "tests/flow/test_session_faults.py": 19,
}
#: Share of a second that a test takes whose file is not listed.
_SECONDS_PER_TEST = 0.2


def lane_of(path: str) -> str:
    """Return the lane of a test file, by its path or the id of one of its tests."""
    file = path.partition("::")[0]
    return "heavy" if any(file == heavy or file.startswith(f"{heavy}/") for heavy in HEAVY) else "light"


def is_collected(path: str, lane: str) -> bool:
    """Return whether a process of a lane looks into a file or folder."""
    if lane == "all" or lane_of(path) == lane:
        return True
    name = path.rpartition("/")[2]
    # The heavy lane passes through folders that lead to a heavy file.
    return lane == "heavy" and not name.startswith("test_") and any(heavy.startswith(f"{path}/") for heavy in HEAVY)


def seconds_of(file: str, tests: Iterable[str]) -> float:
    """Estimate how long a file takes."""
    return SECONDS.get(file, _SECONDS_PER_TEST * len(list(tests)))


class LaneScheduling(LoadScopeScheduling):
    """Scheduler that assigns each process the longest remaining file of its lane; each lane collects its own tests."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0]

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        """Take what a process has collected; one that replaces a crashed one comes later than the others."""
        self.registered_collections[node] = list(collection)

    def schedule(self) -> None:
        """Begin, or give work to a process that came later."""
        if self.collection is None:
            files: dict[str, dict[str, bool]] = {}
            for node, collection in self.registered_collections.items():
                for nodeid in collection:
                    if node.workerinput["lane"] in (lane_of(nodeid), "all"):
                        files.setdefault(self._split_scope(nodeid), {})[nodeid] = False
            self.collection = [nodeid for tests in files.values() for nodeid in tests]
            self.workqueue.update(sorted(files.items(), key=lambda item: -seconds_of(*item)))
            # Each process has told of its own tests only, and pytest took the last figure for all of them.
            self.config.pluginmanager.getplugin("dsession")._session.testscollected = len(self.collection)
        for _ in range(2):  # a process runs a test only when it knows the one after it
            for node in self.nodes:
                self._reschedule(node)

    def _reschedule(self, node: Any) -> None:
        if node.shutting_down or node not in self.registered_collections:
            return
        file = next((file for file in self.workqueue if node.workerinput["lane"] in (lane_of(file), "all")), None)
        if file is None:
            node.shutdown()
        elif self._pending_of(self.assigned_work[node]) <= 2:
            self.workqueue.move_to_end(file, last=False)
            self._assign_work_unit(node)


class Lanes:
    """Plug-in of the process that distributes: gives each test process its lane."""

    def __init__(self) -> None:
        self._lanes: dict[str, str] = {}

    def pytest_configure_node(self, node: Any) -> None:
        """Make the first process heavy, or the one that replaces it; a single process runs everything."""
        is_alone = len(node.config.option.tx) == 1
        lane = "all" if is_alone else "light" if "heavy" in self._lanes.values() else "heavy"
        self._lanes[node.gateway.id] = node.workerinput["lane"] = lane

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Free the lane of a process that has ended."""
        self._lanes.pop(node.gateway.id, None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> LaneScheduling:
        """Replace xdist's own distribution."""
        return LaneScheduling(config, log)


def lane_of_process(config: pytest.Config) -> str:
    """Return the lane of this process; ``all`` outside of pytest-xdist."""
    return str(getattr(config, "workerinput", {}).get("lane", "all"))
