"""Upload rules: which uploads start which jobs."""
