"""``saccade doctor``: whether what Saccade needs is there, and what to do where it is not. A file for each noun."""
