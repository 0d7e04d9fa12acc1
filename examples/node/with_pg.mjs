// pg: the password is a function, which pg calls for each new connection of the pool.
// DB_HOST is the endpoint as RDS reports it; DB_CA names the RDS bundle; credentials come from the ordinary chain.
import { readFileSync } from 'node:fs'
import { Signer } from '@aws-sdk/rds-signer'
import pg from 'pg'

const { DB_HOST: host, DB_PORT: port, DB_USER: user, DB_NAME: database, DB_REGION: region, DB_CA: ca } = process.env
const signer = new Signer({ hostname: host, port: Number(port), username: user, region })
const pool = new pg.Pool({
  host,
  port: Number(port),
  user,
  database,
  password: () => signer.getAuthToken(),
  ssl: { ca: readFileSync(ca, 'utf8') }, // chain and host name are verified
  max: 10,
})

const { rows } = await pool.query('SELECT current_user AS name')
console.log(rows[0].name)
await pool.end()
