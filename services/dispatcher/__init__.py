"""Takes jobs from submitted to their end: scheduling, executors, retries, cancelling."""
