"""The embedded system: two servers, three services and one origin on this machine, under one supervisor."""
