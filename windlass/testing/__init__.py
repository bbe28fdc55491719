"""What a project's tests use: backends that need neither a worker nor a database."""
