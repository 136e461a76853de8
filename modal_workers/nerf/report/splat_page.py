"""Writes splat.html: the model in a viewer inside the page; of a large model its most important splats."""

from __future__ import annotations

import base64
import math
import re
from pathlib import Path
from typing import Final

from modal_workers.gaussians.ply_prefix import prefix
from modal_workers.nerf.report.html_page import asset, viewer_script, write_page

_PLY_BYTES: Final = 9 << 20


def write_splat_page(
    path: Path, ply: Path, *, title: str, description: str, radius: float, elevation_deg: float
) -> int:
    """Write the page; return its number of splats. ``radius`` is that of the object around the origin of the PLY.

    Raises:
        ValueError: the file is not a PLY of splats.
    """
    with ply.open("rb") as file:
        header = file.read(16 * 1024)
    found = re.search(rb"element vertex (\d+)", header)
    end = header.find(b"end_header\n")
    if found is None or end < 0:
        raise ValueError("This is not a PLY file.")
    total = int(found[1])
    per_splat = (ply.stat().st_size - end) / max(1, total)
    count = min(total, int(_PLY_BYTES / max(1.0, per_splat)))
    body = prefix(ply, count)
    write_page(
        path,
        "splat",
        title=title,
        style="viewer",
        description=description,
        shown=f"all {total:,} splats" if count == total else f"the {count:,} most important of {total:,} splats",
        script=viewer_script(asset("splat.js")),
        data={
            "ply": base64.b64encode(body).decode(),
            "radius": radius,
            "elevation_rad": math.radians(elevation_deg),
        },
    )
    return count
