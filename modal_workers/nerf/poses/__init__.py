"""Second stage: the camera poses of the photos (structure from motion)."""
