"""Console: the pages of the system in a browser."""
