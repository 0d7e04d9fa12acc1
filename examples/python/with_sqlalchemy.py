"""SQLAlchemy: one engine whose connections each log in by a token of their own.

DB_DRIVER is postgresql+psycopg or mysql+pymysql; the other variables are those of with_psycopg.py.
"""

import os

from sqlalchemy import text

from rdsiam.pool import Login, sqlalchemy_engine

login = Login(os.environ["DB_HOST"], int(os.environ["DB_PORT"]), os.environ["DB_USER"], os.environ.get("DB_REGION"))
engine = sqlalchemy_engine(login, os.environ["DB_DRIVER"], os.environ["DB_NAME"], pool_size=5)

with engine.connect() as connection:
    print(connection.execute(text("SELECT current_user")).scalar())  # noqa: T201
engine.dispose()
