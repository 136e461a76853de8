"""Acts on many jobs: cancel or retry all that match a filter."""
