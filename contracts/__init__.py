"""Contracts between processes: events, errors, limits, the job aggregate. Standard library and pydantic only."""
