"""The protocol of MySQL and MariaDB for the proxy."""
