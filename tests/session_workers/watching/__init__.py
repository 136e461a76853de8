"""A live session that does no vision: it notes what it was given, as slowly as it is told."""
