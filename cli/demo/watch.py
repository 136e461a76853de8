"""``saccade demo watch``: a model watches a virtual arm and says what happens, beside what is true."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from saccade_client import AsyncClient, SessionView

from cli.browser import open_in_browser, show_page
from cli.connection import as_failures, open_client
from cli.demo.demo_server import demo_server, demo_url_option, wait_for_interrupt
from cli.failure import Failure
from cli.jobs.download import download_artifacts
from cli.output import display_path, print_json, print_line
from cli.progress_bar import format_duration
from cli.settings import CommandSettings

if TYPE_CHECKING:
    from simulators.watch.comparison import WatchComparison
    from simulators.watch.scene import ArmEpisode

_FRAMES_HZ: Final = 6.0
_STOP_S: Final = 60.0
#: Longest wait for the model to be loaded.
_READY_S: Final = 120.0
#: The threshold is fitted to episodes (modal_workers/vision_stream/models/tiny/README.md).
_RULE: Final = {"name": "dropped", "condition": "the gripper drops the object", "threshold": 0.9}
_PARAMS: Final = {
    "model": "tiny", "chunk_frames": 5, "overlap": True, "chunk_s": 1.0, "memory": "history", "history_texts": 0,
}  # fmt: skip


@dataclass
class Watched:
    """Frames that were sent, and texts and alerts about them."""

    texts: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    #: Time in the episode of each frame by its number, and the frame.
    times_s: dict[int, float] = field(default_factory=dict)
    pictures: dict[int, bytes] = field(default_factory=dict)
    #: The model is loaded.
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    #: Why the session failed.
    failure: dict[str, Any] | None = None


@click.command("watch")
@demo_url_option
@click.option("--data", type=click.Path(path_type=Path), help="Folder for all data. [default: ./.saccade]")
@click.option(
    "--seconds",
    "length_s",
    type=click.FloatRange(5, 3600),
    default=45.0,
    show_default=True,
    help="Duration of the session, s.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Each seed gives other objects and motion.")
@click.option("--webcam", is_flag=True, help="Watch a camera of your browser instead of the virtual arm.")
@click.option("--open/--no-open", "opened", default=None, help="Open the pages in a browser. [default: at a terminal]")
@click.option("--keep", is_flag=True, help="Keep the system running afterwards, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value: words, ground truth and paths.")
def watch(
    *,
    url: str | None,
    data: Path | None,
    length_s: float,
    seed: int,
    webcam: bool,
    opened: bool | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Describe what a camera sees, by a model.

    A small vision-language model watches a virtual robot arm that moves objects and drops some. Its sentences are
    compared with what happened, and an alert is raised when something falls.
    """
    if importlib.util.find_spec("transformers") is None:
        raise Failure(
            "The vision stream needs PyTorch and transformers, which are not installed.",
            code="vision_stream_not_installed",
            hint='Run: pip install -c constraints.txt -e ".[vision-stream]"; make demo-watch installs it.',
        )
    data = data or CommandSettings().data
    with demo_server(url, data) as (server, started):
        if not as_json:
            print_line(f"{'Started' if started else 'Using'} Saccade at {server}.")
        with as_failures(server):
            run = asyncio.run(_watch(server, length_s, None if webcam else seed, opened=opened, silent=as_json))
        session, watched, episode = run
        folder = data / "demo" / session.id
        with open_client(server) as client:
            download_artifacts(client, session.id.replace("ses_", "job_"), folder, silent=as_json)
        page = folder / "transcript.html"
        compared = None if episode is None else _compare(watched, episode)
        if compared is not None:
            page = _page_with_truth(session, watched, compared, folder / "transcript-and-truth.html")
        if as_json:
            truth = None if compared is None else compared.figures()
            paths = {"folder": str(folder.absolute()), "transcript": str(page.absolute())}
            print_json({"texts": watched.texts, "alerts": watched.alerts, "truth": truth} | paths)
        else:
            _show(session, compared, page)
        if sys.stdout.isatty() and not as_json if opened is None else opened:
            open_in_browser(page.absolute().as_uri())
        if keep and started:
            wait_for_interrupt(f"The page stays at {server}/sessions/{session.id}. Press Ctrl-C to stop Saccade.")


async def _watch(
    server: str, length_s: float, seed: int | None, *, opened: bool | None, silent: bool
) -> tuple[SessionView, Watched, ArmEpisode | None]:
    """Open a session, film an episode (or leave that to the browser) and follow what is said until the end."""
    settings = CommandSettings()
    key = settings.api_key.get_secret_value() if settings.api_key else None
    watched, episode = Watched(), None
    async with AsyncClient(server, key) as client:
        session = await client.sessions.open(
            "vision_stream", {**_PARAMS, "rules": [_RULE]}, metadata={"from": "saccade demo watch"}
        )
        page = f"{server}/sessions/{session.id}"
        if not silent:
            what = "A browser camera" if seed is None else "A virtual arm moves objects"
            print_line(f"{what}; a small model watches for {format_duration(length_s)}: {page}\n")
            show_page(page, opened)
        async with client.sessions.stream(session.id) as stream:
            reader = asyncio.create_task(_follow(stream, watched, silent=silent))
            await _wait_until_ready(reader, watched)
            if seed is None:
                await asyncio.sleep(length_s)
            else:
                episode = await asyncio.to_thread(_episode, seed, length_s)
                await _film(stream, episode, length_s, watched, reader)
            await stream.stop()
            async with asyncio.timeout(_STOP_S):
                await reader
        session = await client.sessions.get(session.id, wait_s=_STOP_S)
    if session.state != "stopped":
        raise Failure(f"The session is {session.state}, not stopped.", code="session_not_stopped")
    return session, watched, episode


async def _wait_until_ready(reader: asyncio.Task[None], watched: Watched) -> None:
    """Wait until the model is loaded.

    Raises:
        Failure: it failed, or took too long.
    """
    ready = asyncio.create_task(watched.ready.wait())
    try:
        await asyncio.wait((ready, reader), timeout=_READY_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ready.cancel()
    if not watched.ready.is_set():
        error = watched.failure or {}
        raise Failure(
            error.get("message", "The worker did not start in time."),
            code=error.get("code", "worker_not_started"),
            hint=error.get("hint", "See its worker's log in the data folder."),
        )


async def _film(
    stream: Any, episode: ArmEpisode, length_s: float, watched: Watched, reader: asyncio.Task[None]
) -> None:
    """Send the camera's frames at their time until the episode is over or the session has ended."""
    began_s = time.monotonic()
    for seq in range(int(length_s * _FRAMES_HZ)):
        time_s = seq / _FRAMES_HZ
        picture = await asyncio.to_thread(_jpeg, episode, time_s)
        await asyncio.sleep(max(0.0, began_s + time_s - time.monotonic()))
        if reader.done():
            return
        watched.times_s[seq], watched.pictures[seq] = time_s, picture
        await stream.send_frame(picture, seq=seq)
    await asyncio.sleep(1.5)  # the last chunk is described


async def _follow(stream: Any, watched: Watched, *, silent: bool) -> None:
    """Keep the texts and alerts, and print each when it comes, until the session has ended."""
    async for message in stream:
        data = message.get("data") or {}
        if message["type"] == "session.progressed" and data["figures"].get("state") == "watching":
            watched.ready.set()  # the model is loaded; before, frames are dropped
        elif message["type"] == "session.failed":
            watched.failure = data["error"]
        elif message["type"] == "session.text":
            watched.texts.append(data)
            if not silent:
                latency_ms = (data.get("latency") or {}).get("total_ms", 0.0)
                said = data["text"] or (data.get("error") or {}).get("message", "")
                print_line(f"  {data.get('start_s') or 0.0:6.1f} s  {said}  ({latency_ms:.0f} ms)")
        elif message["type"] == "session.alert":
            watched.alerts.append(data)
            if not silent:
                print_line(
                    f"           ALERT {data['rule']}: {data['condition']} (probability {data['confidence']:.2f})"
                )


def _episode(seed: int, length_s: float) -> ArmEpisode:
    from simulators.watch.scene import HELD_OUT_SEEDS, arm_episode  # noqa: PLC0415 - numpy and OpenCV, for this only

    return arm_episode(HELD_OUT_SEEDS + seed, length_s)


def _jpeg(episode: ArmEpisode, time_s: float) -> bytes:
    import cv2  # noqa: PLC0415

    picture = cv2.cvtColor(episode.frame(time_s), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def _compare(watched: Watched, episode: ArmEpisode) -> WatchComparison:
    from simulators.watch.comparison import compare_with_episode  # noqa: PLC0415

    return compare_with_episode(watched.texts, watched.alerts, episode, watched.times_s)


def _page_with_truth(session: SessionView, watched: Watched, compared: WatchComparison, path: Path) -> Path:
    """Write the transcript's page once more, with the frames as they were sent and the share of true statements."""
    from contracts.events.session import FrameTotals, SessionAlert, SessionText  # noqa: PLC0415
    from modal_workers.vision_stream.transcript.page import write_page  # noqa: PLC0415
    from modal_workers.vision_stream.transcript.transcript import Transcript  # noqa: PLC0415

    texts = [SessionText.model_validate(text) for text in watched.texts]
    transcript = Transcript(
        session_id=session.id,
        opened_at=datetime.fromisoformat(session.created_at),
        model=str(session.params["model"]),
        instruction=str(session.params["instruction"]),
        texts=texts,
        alerts=[SessionAlert.model_validate(alert) for alert in watched.alerts],
        totals=FrameTotals.model_validate(session.frames.model_dump()),
        key_frames={text.chunk: watched.pictures[text.last_seq] for text in texts if text.last_seq in watched.pictures},
        notes=list(_truth_lines(compared)),
    )
    write_page(transcript, path)
    return path


def _show(session: SessionView, compared: WatchComparison | None, page: Path) -> None:
    frames = session.frames
    counts = " + ".join(f"{getattr(frames, name)} {name}" for name in ("accepted", "dropped", "rejected"))
    print_line(f"\nFrames: {frames.sent} sent = {counts}")
    if compared is not None:
        for line in _truth_lines(compared):
            print_line(line)
    print_line(f"\nTranscript  {display_path(page.absolute())}   (open it in a browser)")


def _truth_lines(compared: WatchComparison) -> Iterator[str]:
    share = compared.true_share
    if share is not None:
        kinds = ", ".join(
            f"{kind} {compared.true[kind]} of {compared.said[kind]}" for kind in compared.said if compared.said[kind]
        )
        yield f"True statements: {100 * share:.0f} % of {compared.said.total()} ({kinds})"
    if compared.not_understood:
        yield f"  {compared.not_understood} of {compared.texts} texts say something that cannot be checked"
    yield (
        f"Things dropped: {compared.events}, with an alert {compared.alerted}; "
        f"alerts {compared.alerts}, right {compared.right_alerts}"
    )
