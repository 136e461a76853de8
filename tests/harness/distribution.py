"""Distribution of test files over pytest-xdist's processes: three lanes, longest files first.

Tests that load PyTorch, or work on its workers, have the lane ``torch``; those that load only OpenCV, or keep a
processor busy otherwise, ``opencv``. Each lane has a process of its own, of many processes several, and loads only what
it needs. All others mostly wait for servers and run in the remaining processes. A process collects the files of its
lanes only (tests/rules/test_distribution.py checks the lists).
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import psutil
import pytest
from xdist.scheduler import LoadScopeScheduling

#: Files and folders of the lanes that compute.
COMPUTING = {
    "torch": (
        "tests/unit/modal_workers/gaussians",
        "tests/unit/modal_workers/live_splat",
        "tests/unit/modal_workers/nerf",
        "tests/unit/modal_workers/vision_stream",
        "tests/unit/simulators/watch",
        "tests/contract/gateway/test_nerf_uploads.py",
        "tests/contract/pages/test_nerf_pages.py",
        "tests/contract/sessions/test_live_splat_session.py",
        "tests/contract/sessions/test_vision_stream_model.py",
        "tests/system/test_nerf_bad_input.py",
        "tests/system/test_vision_clients.py",
    ),
    "opencv": (
        "tests/unit/modal_workers/badminton",
        "tests/unit/modal_workers/footage",
        "tests/unit/modal_workers/lap_compare",
        "tests/unit/modal_workers/lap_detection",
        "tests/unit/modal_workers/runtime",
        "tests/unit/modal_workers/test_deployment.py",
        "tests/unit/modal_workers/test_workers_deployed.py",
        "tests/unit/simulators/arm",
        "tests/unit/simulators/badminton",
        "tests/unit/simulators/toy",
        "tests/unit/cli/calibrate",
        "tests/unit/contracts/test_archive.py",
        "tests/contract/gateway/test_hostile_media.py",
        "tests/system/test_bad_input.py",
    ),
}
LIGHT = "light"
LANES = (*COMPUTING, LIGHT)
#: Fewer processes than this have one for both lanes that compute.
_PROCESSES_FOR_ALL_LANES = 4
#: Share of the processes that each lane that computes has, by its share of the CPU time.
_SHARE_OF_PROCESSES: Final = {"torch": 0.11, "opencv": 0.17}
#: More would wait for the longest files.
_MOST_PROCESSES = 24
#: What a process and the servers that it starts take on average, at their largest.
_MEMORY_OF_PROCESS_BYTES = 1 << 30
#: What computes fills the time in which the others wait, and the two processes of it have a core each at the end. With
#: the priority the other way round the tests that wait were left over, on a machine that was half idle.
NICENESS_OF_COMPUTING = 5
#: Seconds that the longest files take in four processes on two cores; they start first. Only the order matters: measure
#: again with --junit-xml.
SECONDS = {
    "tests/system/test_compose.py": 202,
    "tests/system/test_embedded_job.py": 190,
    "tests/unit/modal_workers/nerf/poses/test_poses.py": 130,
    "tests/system/test_demo_nerf.py": 117,
    "tests/unit/modal_workers/badminton/test_job_bad_input.py": 100,
    "tests/contract/executors/test_modal_deploy.py": 99,
    "tests/contract/executors/test_executor.py": 98,
    "tests/contract/sessions/test_live_splat_session.py": 92,
    "tests/contract/sessions/test_vision_stream_session.py": 89,
    "tests/system/test_nerf_kills.py": 85,
    "tests/flow/test_modal_dispatch.py": 84,
    "tests/contract/cluster/test_node_loss.py": 80,
    "tests/flow/test_cluster.py": 80,
    "tests/contract/runtime/test_runs.py": 76,
    "tests/contract/gateway/test_openapi.py": 60,
    "tests/contract/runtime/test_session_worker.py": 59,
    "tests/contract/archive/test_archive_erasure.py": 58,
    "tests/contract/executors/test_modal_executor.py": 57,
    "tests/contract/gateway/test_http.py": 56,
    "tests/contract/runtime/test_bus_access.py": 53,
    "tests/contract/webhooks/test_webhook_api.py": 52,
    "tests/contract/kit/test_bucket.py": 45,
    "tests/contract/clients/test_watch.py": 44,
    "tests/system/test_embedded_modal.py": 43,
    "tests/system/test_demo_badminton.py": 42,
    "tests/system/test_embedded_life.py": 42,
    "tests/flow/test_modal_caller_account.py": 38,
    "tests/contract/runtime/test_job_bus.py": 37,
    "tests/contract/own_service/test_own_service.py": 35,
    "tests/system/test_readme.py": 34,
    "tests/system/test_nerf_bad_input.py": 33,
    "tests/contract/streams/test_sse_delivery.py": 33,
    "tests/system/test_bad_input.py": 33,
    "tests/contract/kit/test_tail.py": 32,
    "tests/contract/executors/test_modal_entry.py": 31,
    "tests/contract/runtime/test_file_cache.py": 30,
    "tests/contract/clients/test_client.py": 29,
    "tests/flow/test_modal_crash_points.py": 28,
    "tests/contract/runtime/test_events.py": 28,
    "tests/unit/modal_workers/badminton/test_job_resumption.py": 26,
    "tests/contract/clients/test_client_js_events.py": 26,
    "tests/contract/gateway/test_compat_badminton.py": 26,
    "tests/flow/test_session_faults.py": 26,
    "tests/contract/sessions/test_session_export.py": 26,
    "tests/unit/modal_workers/lap_compare/alignment/test_align.py": 25,
    "tests/contract/kit/test_event_store.py": 25,
    "tests/flow/test_leader_after_history.py": 25,
    "tests/contract/streams/test_sse_clients.py": 24,
    "tests/contract/clients/test_client_js.py": 24,
    "tests/contract/gateway/test_jobs.py": 24,
    "tests/system/test_demo_watch.py": 24,
    "tests/system/test_chaos.py": 22,
    "tests/flow/test_callback_crashes.py": 22,
    "tests/system/test_badminton_endpoint_kills.py": 21,
    "tests/contract/bucket_proxy/test_ranges.py": 21,
    "tests/contract/archive/test_archive.py": 21,
    "tests/contract/pages/test_session_page.py": 20,
    "tests/system/test_backup.py": 20,
    "tests/system/test_delivery_chaos.py": 20,
    "tests/unit/kit/http/test_protocol.py": 19,
    "tests/contract/replays/test_replay_kills.py": 19,
    "tests/contract/pages/test_reference_page.py": 18,
    "tests/contract/cluster/test_decisions.py": 18,
    "tests/flow/test_alerts.py": 18,
    "tests/system/test_vision_kills.py": 18,
    "tests/system/test_installation.py": 18,
    "tests/rules/test_events.py": 18,
    "tests/unit/modal_workers/badminton/rallies/test_hits_and_rallies.py": 18,
    "tests/unit/modal_workers/nerf/capture/test_preflight.py": 17,
    "tests/contract/kit/test_lease.py": 17,
    "tests/unit/modal_workers/nerf/capture/test_capture.py": 17,
    "tests/flow/test_gpu_market.py": 16,
    "tests/contract/replays/test_replay_api.py": 16,
    "tests/system/test_embedded_errors.py": 15,
    "tests/contract/gateway/test_url_inputs.py": 15,
    "tests/contract/sessions/test_vision_stream_model.py": 15,
    "tests/system/test_embedded_full_disk.py": 15,
    "tests/contract/replays/test_replay_cli.py": 15,
    "tests/contract/clients/test_client_events.py": 15,
    "tests/unit/modal_workers/badminton/test_job.py": 14,
    "tests/contract/lerobot/test_faults.py": 14,
    "tests/unit/modal_workers/badminton/players/test_motion_backend.py": 14,
    "tests/unit/modal_workers/badminton/court/test_camera_segments.py": 14,
    "tests/flow/test_job_takeover.py": 14,
    "tests/contract/archive/test_archive_crashes.py": 13,
    "tests/contract/kit/test_nats_tls.py": 13,
    "tests/unit/cli/calibrate/test_calibration.py": 13,
    "tests/unit/modal_workers/vision_stream/models/test_cache_memory.py": 13,
    "tests/system/test_vision_clients.py": 13,
    "tests/flow/test_job_lifecycle.py": 13,
    "tests/contract/replays/test_webhook_target.py": 13,
    "tests/contract/streams/test_sse_forks.py": 13,
    "tests/contract/cluster/test_deploy_cluster.py": 13,
    "tests/flow/test_job_crash_points.py": 12,
    "tests/unit/modal_workers/badminton/players/test_tracking.py": 12,
    "tests/unit/modal_workers/badminton/players/test_simulated_matches.py": 12,
    "tests/contract/pages/test_nerf_pages.py": 12,
    "tests/contract/executors/test_modal_loopback.py": 12,
    "tests/contract/bucket_proxy/test_transfers.py": 12,
    "tests/contract/reactions/test_settle.py": 12,
    "tests/contract/reactions/test_bus.py": 12,
    "tests/contract/replays/test_replay_engine.py": 12,
    "tests/flow/test_whatif.py": 12,
    "tests/contract/gateway/test_uploads.py": 11,
    "tests/contract/gateway/test_nginx_origin.py": 11,
    "tests/flow/test_webhook_crashes.py": 11,
    "tests/contract/streams/test_sse_archive.py": 11,
    "tests/contract/pages/test_session_page_gateway.py": 11,
    "tests/unit/modal_workers/badminton/court/test_detection.py": 10,
    "tests/contract/pages/test_event_reference_page.py": 10,
}
#: Share of a second that a test takes whose file is not listed.
_SECONDS_PER_TEST = 0.2


def lane_of(path: str) -> str:
    """Return the lane of a test file, by its path or the id of one of its tests."""
    file = path.partition("::")[0]
    for lane, places in COMPUTING.items():
        if any(file == place or file.startswith(f"{place}/") for place in places):
            return lane
    return LIGHT


def is_collected(path: str, lanes: Sequence[str]) -> bool:
    """Return whether a process of some lanes looks into a file or folder."""
    if lane_of(path) in lanes:
        return True
    name = path.rpartition("/")[2]
    # A lane passes through folders that lead to a file of it.
    places = [place for lane in lanes for place in COMPUTING.get(lane, ())]
    return not name.startswith("test_") and any(place.startswith(f"{path}/") for place in places)


def seconds_of(file: str, tests: Iterable[str]) -> float:
    """Estimate how long a file takes."""
    return SECONDS.get(file, _SECONDS_PER_TEST * len(list(tests)))


def process_count(cores: int, available_bytes: int) -> int:
    """Return how many processes keep the cores of a machine busy, within its free memory."""
    by_memory = available_bytes // _MEMORY_OF_PROCESS_BYTES
    return max(1, min(2 * cores + 1, by_memory, _MOST_PROCESSES))


def processes_of_machine() -> int:
    """Return the number of processes for this machine."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return process_count(cores, psutil.virtual_memory().available)


def lanes_of_processes(processes: int) -> list[tuple[str, ...]]:
    """Return the lanes of each of some processes, those that compute first."""
    if processes == 1:
        return [LANES]
    if processes < _PROCESSES_FOR_ALL_LANES:
        computing: list[tuple[str, ...]] = [(*COMPUTING,)]
    else:
        computing = [
            (lane,) for lane, share in _SHARE_OF_PROCESSES.items() for _ in range(max(1, round(share * processes)))
        ]
    return [*computing, *[(LIGHT,)] * (processes - len(computing))]


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
                    if lane_of(nodeid) in node.workerinput["lanes"]:
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
        file = next((file for file in self.workqueue if lane_of(file) in node.workerinput["lanes"]), None)
        if file is None:
            node.shutdown()
        elif self._pending_of(self.assigned_work[node]) <= 2:
            self.workqueue.move_to_end(file, last=False)
            self._assign_work_unit(node)


class Lanes:
    """Plug-in of the process that distributes: gives each test process its lanes."""

    def __init__(self) -> None:
        self._lanes: dict[str, tuple[str, ...]] = {}

    def pytest_configure_node(self, node: Any) -> None:
        """Assign to a process the first lanes that too few processes have; one may replace a process that crashed."""
        free = Counter(lanes_of_processes(len(node.config.option.tx)))
        free.subtract(self._lanes.values())
        lanes = next((lanes for lanes, count in free.items() if count > 0), (LIGHT,))
        self._lanes[node.gateway.id] = lanes
        node.workerinput["lanes"] = list(lanes)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Free the lanes of a process that has ended."""
        self._lanes.pop(node.gateway.id, None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> LaneScheduling:
        """Replace xdist's own distribution."""
        return LaneScheduling(config, log)


def lanes_of_process(config: pytest.Config) -> Sequence[str]:
    """Return the lanes of this process: all of them outside of pytest-xdist."""
    lanes: Sequence[str] = getattr(config, "workerinput", {}).get("lanes", LANES)
    return lanes
