"""psycopg: a pool whose connections each log in by a token of their own.

Needs rdsiam and psycopg_pool >= 3.3; credentials come from the ordinary chain. Set DB_HOST to the endpoint as RDS
reports it, DB_PORT, DB_USER, DB_NAME and, where the host's name doesn't tell it, DB_REGION.
"""

import os

from rdsiam.pool import Login, psycopg_pool

login = Login(os.environ["DB_HOST"], int(os.environ["DB_PORT"]), os.environ["DB_USER"], os.environ.get("DB_REGION"))

with psycopg_pool(login, os.environ["DB_NAME"], min_size=1, max_size=10) as pool, pool.connection() as connection:
    row = connection.execute("SELECT current_user").fetchone()
    print(row[0])  # noqa: T201
