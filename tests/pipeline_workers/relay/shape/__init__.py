"""Stage of relay."""
