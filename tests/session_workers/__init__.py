"""Workers of live sessions that tests play themselves."""
