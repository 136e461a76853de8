"""Gateway, dispatcher and notifier; kit is what the three and the workers' runtime stand on."""
