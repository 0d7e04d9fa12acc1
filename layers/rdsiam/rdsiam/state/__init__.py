"""State of rdsiam, in DynamoDB."""
