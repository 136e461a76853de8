"""Cost of attempts and jobs."""
