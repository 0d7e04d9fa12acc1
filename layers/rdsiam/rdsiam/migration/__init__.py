"""Migration: a user moves from its password to tokens in states, each of which can be undone."""
