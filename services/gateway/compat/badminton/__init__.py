"""The backend of the replaced badminton tracker: its page, a Convex client, works against this system unchanged."""
