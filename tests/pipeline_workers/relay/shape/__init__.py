"""A stage of relay."""
