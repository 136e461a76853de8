"""The whole system on one machine: two servers, three services and one origin, under one supervisor."""
