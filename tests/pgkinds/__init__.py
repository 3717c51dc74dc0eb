"""A test app with the fields and constraints that only PostgreSQL has."""
