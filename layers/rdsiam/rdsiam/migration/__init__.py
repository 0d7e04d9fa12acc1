"""Migration: a user that has a password comes to log in by token, in states, each with its way back."""
