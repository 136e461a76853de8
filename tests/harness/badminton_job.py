"""A job of the badminton analysis as its worker reports it: result and the files for clients of the replaced system."""

from __future__ import annotations

import json
from typing import Any

from contracts.events.job import JobProgressed, JobStageCompleted
from modal_workers.badminton.spec import BadmintonResult, MissingPart, VideoResult
from tests.harness.servers.gateway import RunningGateway

PDF = b"%PDF-1.7\n" + bytes(range(256)) * 1000


def result() -> dict[str, Any]:
    """Return the result of a clip of three seconds, without players."""
    video = VideoResult(
        filename="video.mp4",
        width_px=64,
        height_px=48,
        rotation_deg=0,
        frame_count=90,
        analysed_frame_count=88,
        duration_s=3.0,
        mean_rate_hz=30.0,
        variable_rate=False,
    )
    return BadmintonResult(
        video=video,
        mode="full",
        pose_backend="",
        shuttle_backend="",
        skeletons=False,
        court=None,
        players=(),
        rally_count=None,
        play_s=None,
        longest_rally_s=None,
        hit_count=None,
        left_out_s=0.0,
        warnings=("The camera shakes.",),
        missing=(MissingPart(part="players", reason="nobody moves"),),
    ).model_dump(mode="json")


def files(video_id: str) -> dict[str, tuple[bytes, str]]:
    """Return the job's files by name, with their media types."""
    grid = [[(x * 4 + y) % 256 for x in range(64)] for y in range(48)]
    contents: dict[str, Any] = {
        "compat/results.json": {"video_id": video_id, "fps": 30.0, "players": [], "skeleton_data": []},
        "compat/zones.json": {"video_id": video_id, "player_zone_analytics": {}, "manual_keypoints_used": True},
        "compat/speed.json": {"video_id": video_id, "speed_data": {"frame_data": [], "statistics": {}}},
        "compat/heatmap.json": {
            "video_id": video_id, "width": 64, "height": 48, "colormap": "turbo", "combined_heatmap": grid,
            "player_heatmaps": {"0": grid}, "total_frames": 90, "video_width": 64, "video_height": 48,
        },
    }  # fmt: skip
    found = {name: (json.dumps(content).encode(), "application/json") for name, content in contents.items()}
    return found | {"report.pdf": (PDF, "application/pdf"), "processed.mp4": (b"not a video", "video/mp4")}


async def report_progress(running: RunningGateway, job_id: str, run_id: str) -> None:
    """Complete the first stage, and report half of the second one."""
    await running.say(job_id, JobStageCompleted(attempt=1, run_id=run_id, stage="court", duration_s=1.25))
    progress = JobProgressed(
        attempt=1, run_id=run_id, stage="detect", fraction=0.371, stage_fraction=0.5, frame=45, frame_count=90
    )
    await running.say(job_id, progress)


async def succeed(running: RunningGateway, job_id: str, run_id: str, video_id: str) -> None:
    """Leave the files and say that the job has succeeded."""
    artifacts = [await running.leave(job_id, run_id, name, *file) for name, file in files(video_id).items()]
    await running.finish_job(job_id, run_id, artifacts, result=result())
