"""Axis conventions: nerfstudio's cameras look along -z with y up, ours and COLMAP's along z with y down."""

from __future__ import annotations

from typing import Final

import numpy as np

#: Right factor that converts a pose [4, 4] from either convention to the other.
OPENGL_FROM_OPENCV: Final = np.diag([1.0, -1.0, -1.0, 1.0])
