"""Writes splat.html: the model itself in a viewer, inside the page; of a large one its most important splats."""

from __future__ import annotations

import base64
import math
import re
from pathlib import Path
from typing import Final

from modal_workers.gaussians.ply_prefix import prefix
from modal_workers.nerf.report.html_page import asset, viewer_script, write_page

_PLY_BYTES: Final = 9 << 20


def write_splat_page(path: Path, ply: Path, *, title: str, told: str, radius: float, elevation_deg: float) -> int:
    """Write the page and give how many splats it has; ``radius`` is that of the object about the PLY's origin.

    Raises:
        ValueError: the file is no PLY of splats.
    """
    with ply.open("rb") as file:
        head = file.read(16 * 1024)
    found = re.search(rb"element vertex (\d+)", head)
    end = head.find(b"end_header\n")
    if found is None or end < 0:
        raise ValueError("This is no PLY file.")
    there = int(found[1])
    per_splat = (ply.stat().st_size - end) / max(1, there)
    count = min(there, int(_PLY_BYTES / max(1.0, per_splat)))
    body = prefix(ply, count)
    write_page(
        path,
        "splat",
        title=title,
        style="viewer",
        told=told,
        shown=f"all {there:,} splats" if count == there else f"the {count:,} most important of {there:,} splats",
        script=viewer_script(asset("splat.js")),
        data={
            "ply": base64.b64encode(body).decode(),
            "radius": radius,
            "elevation_rad": math.radians(elevation_deg),
        },
    )
    return count
