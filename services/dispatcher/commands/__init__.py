"""Operators' commands to the dispatcher (contracts/commands.py)."""
