"""The gateway's routes: HTTP in and out, no decisions."""
