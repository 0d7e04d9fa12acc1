"""PyMySQL: a function that opens a connection with a fresh token each time.

The variables are those of with_psycopg.py.
"""

import os

from rdsiam.pool import Login, pymysql_connect

login = Login(os.environ["DB_HOST"], int(os.environ["DB_PORT"]), os.environ["DB_USER"], os.environ.get("DB_REGION"))
connect = pymysql_connect(login, os.environ["DB_NAME"])

with connect() as connection, connection.cursor() as cursor:
    cursor.execute("SELECT current_user()")
    print(cursor.fetchone()[0])  # noqa: T201
