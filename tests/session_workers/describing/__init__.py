"""A vision stream with a model of a few lines: it names the colour of what it sees."""
