"""``saccade demo [laps]``: two laps filmed, compared, and the answer held against the truth."""

from __future__ import annotations

import contextlib
import importlib
import time
from pathlib import Path
from typing import Any, Final

import click
from saccade import Client

from cli.connection import open_client
from cli.demo.demo_server import demo_server
from cli.demo.ground_truth import TrueLapTimes, curve_errors, figures, true_loss_s
from cli.demo.render_laps import render_laps
from cli.jobs.follow import follow_job
from cli.jobs.submission import find_workload, upload_inputs
from cli.output import display_path, print_json, print_line, print_note, print_table
from cli.progress_bar import format_duration, format_size, progress_bar
from cli.settings import CommandSettings

_WORKLOAD: Final = "lap_compare"


class _Clock:
    """Where the time of the demo went."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self.parts: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.parts[name] = now - self._last
        self._last = now


class _Demos(click.Group):
    """Loads another demo when it is called; ``saccade demo`` alone compares laps."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name them."""
        return ["live", "nerf"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load one."""
        if cmd_name not in ("live", "nerf"):
            return None
        command: click.Command = getattr(importlib.import_module(f"cli.demo.{cmd_name}"), cmd_name)
        return command


@click.group(cls=_Demos, invoke_without_command=True)
@click.pass_context
@click.option("--url", help="Use a server that runs. [default: start one]")
@click.option("--data", type=click.Path(path_type=Path), help="Folder for all data. [default: ./.saccade]")
@click.option("--laps", "lap_s", type=click.FloatRange(8, 600), default=25.0, show_default=True, help="Seconds a lap.")
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed is another circuit.")
@click.option("--keep", is_flag=True, help="Leave the system running afterwards, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON value: figures, truth and paths.")
def demo(
    context: click.Context, *, url: str | None, data: Path | None, lap_s: float, seed: int, keep: bool, as_json: bool
) -> None:
    """Film two laps whose times are known, compare them, and show the answer next to the truth."""
    if context.invoked_subcommand is not None:
        return
    data = data or CommandSettings().data
    clock = _Clock()
    with demo_server(url, data) as (server, started):
        if not as_json:
            print_line(f"Saccade {'runs' if started else 'is used'} at {server}.")
            print_line("Two drivers lap one circuit. Their films go in; where the time was lost comes out.\n")
        clock.lap("start")
        laps = render_laps(data / "demo" / f"laps-{seed}", seed, lap_s, silent=as_json)
        clock.lap("film")
        with open_client(server) as client:
            job_id, result = _compare(client, laps, clock, silent=as_json)
            folder = data / "demo" / job_id
            _download(client, job_id, folder, silent=as_json)
        clock.lap("download")
        truth = TrueLapTimes.read(laps[2])
        if as_json:
            print_json(_as_json(result, truth, folder, clock))
        else:
            _show(result, truth, folder, clock)
        if keep and started:
            print_line(f"\nSaccade goes on at {server}. Ctrl-C stops it.")
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    time.sleep(3600)


def _compare(
    client: Client, laps: tuple[Path, Path, Path], clock: _Clock, *, silent: bool
) -> tuple[str, dict[str, Any]]:
    """Upload the films, submit the job and follow it to its result."""
    inputs = upload_inputs(client, find_workload(client, _WORKLOAD), [str(laps[0]), str(laps[1])], silent=silent)
    clock.lap("upload")
    job = client.submit(_WORKLOAD, inputs, metadata={"from": "saccade demo"})
    job = follow_job(client, job.id, silent=silent)
    clock.lap("compare")
    assert job.result is not None
    return job.id, job.result


def _download(client: Client, job_id: str, folder: Path, *, silent: bool) -> None:
    with progress_bar("Downloading", silent=silent) as update:
        client.download(job_id, folder, lambda done, total: update(done / total if total else 1.0, format_size(total)))


def _show(result: dict[str, Any], truth: TrueLapTimes, folder: Path, clock: _Clock) -> None:
    whole = figures(result, truth)[0]
    slower, faster = ("B", "A") if whole.measured_s > 0 else ("A", "B")
    print_line(f"\nDriver {faster} is {abs(whole.measured_s):.2f} s faster than driver {slower}.\n")
    rows = [
        (one.name, f"{one.measured_s:+.3f}", f"{one.band_s:.3f}", f"{one.true_s:+.3f}", f"{one.error_s:.3f}")
        for one in figures(result, truth)
    ]
    print_table(("B less A, in s", "MEASURED", "±", "TRUE", "OFF BY"), rows)
    median_s, largest_s = curve_errors(folder / "delta.csv", truth)
    print_line(
        f"\nAlong the lap the delta is off by {1000 * median_s:.0f} ms (median), {1000 * largest_s:.0f} ms at most;"
    )
    print_line(f"the confidence is {result['confidence']:.2f} of 1.\n")
    print_line("Where the time was lost")
    for one in result["opportunities"]:
        driver = "B" if one["loser"] == "other" else "A"
        where = f"between {one['start_reference_s']:.1f} s and {one['end_reference_s']:.1f} s of lap A"
        amount = f"{one['lost_s']:.2f} ± {one['error_s']:.2f} s"
        print_line(f"  {one['rank']}. driver {driver} loses {amount} {where} (true: {true_loss_s(one, truth):.2f} s)")
    for warning in result["warnings"]:
        print_note(f"  note: {warning}")
    spent = " · ".join(f"{name} {format_duration(seconds)}" for name, seconds in clock.parts.items())
    print_line(f"\nReport   {display_path((folder / 'report.html').absolute())}   (open it in a browser)")
    print_line(f"Overlay  {display_path((folder / 'overlay.mp4').absolute())}   (both laps, locked by place)")
    print_line(f"Took {format_duration(sum(clock.parts.values()))}: {spent}")


def _as_json(result: dict[str, Any], truth: TrueLapTimes, folder: Path, clock: _Clock) -> dict[str, Any]:
    median_s, largest_s = curve_errors(folder / "delta.csv", truth)
    return {
        "figures": [
            {"name": one.name, "measured_s": one.measured_s, "band_s": one.band_s, "true_s": one.true_s}
            for one in figures(result, truth)
        ],
        "delta_error_median_s": median_s,
        "delta_error_largest_s": largest_s,
        "opportunities": [one | {"true_lost_s": true_loss_s(one, truth)} for one in result["opportunities"]],
        "confidence": result["confidence"],
        "report": str((folder / "report.html").absolute()),
        "overlay": str((folder / "overlay.mp4").absolute()),
        "spent_s": clock.parts,
    }
