"""Golden windows: events that a dispatcher of each released version recorded, for today's to be held against."""
