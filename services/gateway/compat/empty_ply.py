"""A PLY without splats, for clients that read the model before there is one."""

from __future__ import annotations

from typing import Final

_PROPERTIES: Final = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
#: The header that the workers write (modal_workers/gaussians/ply.py), of no splats.
EMPTY_PLY: Final = "\n".join(
    [
        *("ply", "format binary_little_endian 1.0", "element vertex 0"),
        *(f"property float {name}" for name in _PROPERTIES),
        "end_header\n",
    ]
).encode()
