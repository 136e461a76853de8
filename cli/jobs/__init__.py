"""The commands that submit, list and follow jobs."""
