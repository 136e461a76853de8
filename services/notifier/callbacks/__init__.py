"""Callbacks of the replaced badminton system: status, log, results and video of a job, delivered to its site."""
