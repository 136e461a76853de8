"""The axes of ``transforms.json``: nerfstudio's cameras look along -z with y up, ours and COLMAP's along z, y down."""

from __future__ import annotations

from typing import Final

import numpy as np

#: Times it from the right, a pose [4, 4] of either convention becomes one of the other.
OPENGL_FROM_OPENCV: Final = np.diag([1.0, -1.0, -1.0, 1.0])
