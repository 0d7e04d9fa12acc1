"""The version of rdsiam that this command is of."""

#: As in pyproject.toml; nothing has to be installed to know it.
VERSION = "0.1.0"
