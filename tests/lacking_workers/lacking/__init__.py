"""Worker whose module is installed nowhere."""
