"""Live session whose worker is the test itself."""
