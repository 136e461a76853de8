"""Lifecycle of a job: queue, launch, watch, end, and removal of its scratch files."""
