"""A local proxy for clients that can't sign: it logs in with a fresh token for each of their connections."""
