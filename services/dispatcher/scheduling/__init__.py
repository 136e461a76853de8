"""Scheduling: which job is reconciled next, and which one gets a slot."""
