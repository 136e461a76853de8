"""Dead letters of all kinds in one list: events that no handler took, deliveries given up, failed jobs."""
