"""Rotation: the passwords that have to stay get a new one, on a schedule of their own, and survive whatever happens."""
