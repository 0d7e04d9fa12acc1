// mysql2: the token is the answer to the server's question for a clear-text password, asked for each new connection.
// A password in the pool's configuration would be copied once and end after 15 minutes. Variables: see with_pg.mjs.
import { readFileSync } from 'node:fs'
import { Signer } from '@aws-sdk/rds-signer'
import mysql from 'mysql2/promise'

const { DB_HOST: host, DB_PORT: port, DB_USER: user, DB_NAME: database, DB_REGION: region, DB_CA: ca } = process.env
const signer = new Signer({ hostname: host, port: Number(port), username: user, region })
const pool = mysql.createPool({
  host,
  port: Number(port),
  user,
  database,
  ssl: { ca: readFileSync(ca, 'utf8'), verifyIdentity: true }, // without verifyIdentity the name is not checked
  authPlugins: {
    mysql_clear_password: () => async () => Buffer.from(`${await signer.getAuthToken()}\0`),
  },
  connectionLimit: 10,
})

const [rows] = await pool.query('SELECT current_user() AS name')
console.log(rows[0].name)
await pool.end()
