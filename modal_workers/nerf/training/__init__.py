"""Third stage: training of a radiance field on the photos."""
