"""Lambda and API Gateway: functions, their emulators, durable executions, the HTTP API."""
