"""The ``saccade calibrate`` command: camera intrinsics and hand-eye calibration from a recording."""
