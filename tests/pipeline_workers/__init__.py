"""A pipeline of three stages, for tests: a catalog of its own."""
