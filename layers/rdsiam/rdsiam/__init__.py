"""rdsiam: passwordless Amazon RDS, for a whole fleet."""
