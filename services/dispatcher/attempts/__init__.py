"""Decisions about one attempt of a job: is it alive, what did it leave, what follows its end."""
