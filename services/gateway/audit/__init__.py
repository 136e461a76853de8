"""Audit log: who had what done, and why."""
