"""`rdsiam proxy` beside a direct connection and HAProxy."""
