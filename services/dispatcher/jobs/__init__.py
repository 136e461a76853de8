"""The job events that the dispatcher consumes and publishes."""
