"""Camera calibration: intrinsics and hand-eye transform from a recording."""
