"""Modules and programs of the workers, as far as the gateway knows."""
