"""Tables, pictures and the report of a lap detection."""
