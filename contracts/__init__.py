"""What crosses a process boundary: events, errors, limits, the job aggregate. Standard library and pydantic only."""
