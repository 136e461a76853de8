"""Telemetry of live sessions: frames and joint positions on their way to the worker, and their record."""
