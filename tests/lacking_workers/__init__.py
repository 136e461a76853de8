"""A worker that no machine can run: a module that it requires exists nowhere."""
