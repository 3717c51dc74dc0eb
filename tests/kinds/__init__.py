"""A test app with one small model for every kind of model, field and link."""
