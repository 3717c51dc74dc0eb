"""Models whose changes are logged and sent, and two sites that have them."""
