"""PostgreSQL in the proxy: its protocol until a login is done."""
