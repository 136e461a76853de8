"""Telemetry of live sessions: frames and joint positions."""
