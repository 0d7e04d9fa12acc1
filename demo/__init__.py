"""The demo: databases that become passwordless by themselves."""
