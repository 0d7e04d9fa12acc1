"""The HTTP API: authenticates a caller, parses a request, answers it."""
