"""The overlay video: both laps side by side, synchronised by place."""
