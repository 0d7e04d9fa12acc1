"""Login tokens and the endpoints that they are for."""
