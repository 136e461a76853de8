"""Pipelines: a job whose stages are jobs of their own."""
