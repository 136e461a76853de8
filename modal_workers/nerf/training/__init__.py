"""The third stage: a radiance field is fitted to the photos."""
