"""Patches of moto, where it does otherwise than AWS."""
