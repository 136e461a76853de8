"""The ``saccade demo`` commands."""
