"""Pipelines: jobs whose stages are jobs of their own."""
