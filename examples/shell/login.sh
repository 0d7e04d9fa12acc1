#!/usr/bin/env bash
# Any program of PostgreSQL's or MySQL's, logged in by a token. It is good for new connections for 15 minutes.
# Usage: login.sh HOST PORT USER DATABASE REGION CA — signed offline with your own credentials.
set -euo pipefail
host=$1 port=$2 user=$3 database=$4 region=$5 ca=$6

PGPASSWORD=$(rdsiam token --host "$host" --port "$port" --user "$user" --region "$region") \
  PGSSLMODE=verify-full PGSSLROOTCERT=$ca PGGSSENCMODE=disable \
  psql --host "$host" --port "$port" --username "$user" --dbname "$database" -XAtc 'SELECT current_user'
