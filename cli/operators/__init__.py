"""The commands of operators: API keys, webhook endpoints, Modal deployment."""
