"""What rdsiam records in DynamoDB."""
