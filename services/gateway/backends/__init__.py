"""What workers have installed, as far as the gateway knows."""
