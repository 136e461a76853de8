"""Jobs of the dispatcher: in memory and in the event stream."""
