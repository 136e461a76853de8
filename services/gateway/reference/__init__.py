"""The API reference: Swagger UI over the OpenAPI documents of the services."""
