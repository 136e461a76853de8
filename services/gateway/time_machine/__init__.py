"""Time machine: jobs and sessions as they were at a point of the history, and what changed between two."""
