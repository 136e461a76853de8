"""Commands of operators: API keys, webhook endpoints, Modal deployment."""
