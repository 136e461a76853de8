"""Executors: run workers as local processes or on Modal."""
