"""An app without models of its own: each example of a test draws some, and they are gone with it."""
