"""Events that invoke functions, as typed requests."""
