"""Artifacts of jobs."""
