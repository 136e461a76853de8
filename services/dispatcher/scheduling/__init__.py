"""Scheduling: which job runs next, and on which device."""
