"""Models and frames for tests of the vision stream."""
