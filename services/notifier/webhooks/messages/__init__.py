"""Messages to people about events: sentences, users' templates, and the bodies of chat services and e-mail."""
