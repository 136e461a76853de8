"""Commands about upload rules."""
