"""The overlay video: both laps side by side, locked by place."""
