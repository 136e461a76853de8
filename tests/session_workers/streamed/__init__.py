"""A live session whose worker is played by the test itself."""
