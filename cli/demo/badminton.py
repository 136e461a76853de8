"""``saccade demo badminton``: render a minute of a match, analyse it, and show the figures beside the ground truth."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from saccade_client import Client, Job

from cli.browser import open_in_browser
from cli.connection import open_client
from cli.demo.demo_server import demo_server, demo_url_option, wait_for_interrupt
from cli.demo.render_process import render_in_child
from cli.jobs.download import download_artifacts
from cli.jobs.follow import follow_job
from cli.jobs.submission import check_job, find_workload, upload_inputs
from cli.output import display_path, print_json, print_line, print_note, print_table
from cli.progress_bar import format_duration, progress_bar
from cli.settings import CommandSettings

if TYPE_CHECKING:
    from simulators.badminton.comparison import MatchComparison

_WORKLOAD: Final = "badminton"


@click.command("badminton")
@demo_url_option
@click.option("--data", type=click.Path(path_type=Path), help="Folder for all data. [default: ./.saccade]")
@click.option(
    "--seconds",
    "duration_s",
    type=click.FloatRange(10, 600),
    default=60.0,
    show_default=True,
    help="Duration of the match, s.",
)
@click.option("--doubles", is_flag=True, help="Render four players.")
@click.option("--seed", type=int, default=1, show_default=True, help="Each seed gives another match.")
@click.option("--open/--no-open", "opened", default=None, help="Open the report. [default: at a terminal]")
@click.option("--keep", is_flag=True, help="Keep the system running afterwards, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value: result, ground truth and paths.")
def badminton(
    *,
    url: str | None,
    data: Path | None,
    duration_s: float,
    doubles: bool,
    seed: int,
    opened: bool | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Analyse a rendered match.

    Render a minute of a match, find players, shuttle and rallies, and show the figures next to the ground truth.
    """
    data = data or CommandSettings().data
    began_s = time.monotonic()
    with demo_server(url, data) as (server, started):
        if not as_json:
            print_line(f"{'Started' if started else 'Using'} Saccade at {server}.")
            print_line("Input: a video of a match. Result: who was where, how fast, and which rallies were played.\n")
        source = data / "demo" / f"match-{seed}{'-doubles' * doubles}"
        _render(source, seed, duration_s, doubles=doubles, silent=as_json)
        with open_client(server) as client:
            job = _analyse(client, source / "match.mp4", silent=as_json)
            folder = data / "demo" / job.id
            download_artifacts(client, job.id, folder, silent=as_json)
        compared = _compare(folder, source)
        took_s = time.monotonic() - began_s
        if as_json:
            print_json(
                {"headline": job.headline, "result": job.result, "truth": _as_json(compared)}
                | {"took_s": round(took_s, 1), "folder": str(folder.absolute())}
            )
        else:
            print_line(f"\n{job.headline}.\n")
            _show(job, compared, folder, took_s)
        if sys.stdout.isatty() and not as_json if opened is None else opened:
            open_in_browser((folder / "report.html").absolute().as_uri())
        if keep and started:
            wait_for_interrupt(f"Saccade still runs at {server}. Press Ctrl-C to stop it.")


def _render(folder: Path, seed: int, duration_s: float, *, doubles: bool, silent: bool) -> None:
    arguments = ["--seed", str(seed), "--duration-s", str(duration_s), *["--doubles"] * doubles]
    with progress_bar("Rendering a match", silent=silent) as update:
        for report in render_in_child("simulators.badminton.demo_match", arguments, folder):
            update(report["fraction"], "")


def _analyse(client: Client, video: Path, *, silent: bool) -> Job:
    """Upload the video, submit the job and follow it to its result."""
    declared, files = find_workload(client, _WORKLOAD), [str(video)]
    check_job(client, declared, files, {})
    inputs = upload_inputs(client, declared, files, silent=silent)
    job = client.submit(_WORKLOAD, inputs, metadata={"from": "saccade demo badminton"})
    return follow_job(client, job.id, silent=silent)


def _compare(folder: Path, source: Path) -> MatchComparison:
    from simulators.badminton.comparison import compare_with_truth  # noqa: PLC0415 - numpy, for this only
    from simulators.badminton.match_truth import MatchTruth  # noqa: PLC0415

    return compare_with_truth(json.loads((folder / "results.json").read_text()), MatchTruth.load(source / "match.mp4"))


def _show(job: Job, compared: MatchComparison, folder: Path, took_s: float) -> None:
    rows = []
    for player in compared.players:
        rows += [
            (f"player {player.player}: distance, m", _number(player.distance_m), _number(player.true_distance_m)),
            (
                f"player {player.player}: top speed, m/s",
                _number(player.top_speed_m_s),
                _number(player.true_top_speed_m_s),
            ),
        ]
    rows.append(("rallies", str(compared.rally_count), str(compared.true_rally_count)))
    print_table(("", "MEASURED", "TRUE"), rows)
    figures = _as_json(compared)
    print_line(
        f"\nErrors: court corners {_number(figures['corner_error_median_px'])} px, "
        f"players' positions {_number(figures['position_error_median_m'], 2)} m (median), "
        f"hits F1 {_number(figures['hit_f1'], 2)}, zones {_percent(figures['zone_agreement'])} right."
    )
    assert job.result is not None
    for missing in job.result["missing"]:
        print_note(f"  missing: {missing['part']}: {missing['reason']}")
    for warning in job.result["warnings"]:
        print_note(f"  note: {warning}")
    print_line(f"\nReport  {display_path((folder / 'report.html').absolute())}   (open it in a browser)")
    print_line(f"Video   {display_path((folder / 'processed.mp4').absolute())}")
    print_line(f"Took {format_duration(took_s)}.")


def _as_json(compared: MatchComparison) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415 - the other demos do without it

    errors = np.concatenate([np.zeros(0), *(player.position_error_m for player in compared.players)])
    limits = np.abs(compared.limit_errors_s)
    agreements = [player.zone_agreement for player in compared.players]
    return {
        "corner_error_median_px": _median(compared.corner_error_px.ravel()),
        "position_error_median_m": _median(errors),
        "position_error_p95_m": float(np.percentile(errors, 95)) if len(errors) else None,
        "identity_switches": sum(player.switch_count for player in compared.players),
        "zone_agreement": float(np.mean(agreements)) if agreements else None,
        "players": [
            {
                "player": player.player,
                "distance_m": _finite(player.distance_m),
                "true_distance_m": player.true_distance_m,
                "top_speed_m_s": _finite(player.top_speed_m_s),
                "true_top_speed_m_s": player.true_top_speed_m_s,
            }
            for player in compared.players
        ],
        "shuttle_precision": _finite(compared.shuttle_precision),
        "shuttle_recall": _finite(compared.shuttle_recall),
        "hit_f1": compared.hit_f1,
        "rallies": compared.rally_count,
        "true_rallies": compared.true_rally_count,
        "rally_limits_within_0_3_s": float(np.mean(limits <= 0.3)) if len(limits) else None,
    }


def _median(values: Any) -> float | None:
    import numpy as np  # noqa: PLC0415

    return float(np.median(values)) if len(values) else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None, digits: int = 1) -> str:
    return "unknown" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.0f} %"
