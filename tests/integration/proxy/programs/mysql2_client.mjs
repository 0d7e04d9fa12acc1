// mysql2 as an application uses it: a pool made from a URL, prepared statements, a transaction, a killed query.
// Arguments: the URL. PACKAGES names the folder whose node_modules has mysql2.
import { createRequire } from 'node:module'

const mysql = createRequire(`${process.env.PACKAGES}/`)('mysql2/promise')
const say = (name, value) => console.log(`${name}=${value}`)
const pool = mysql.createPool({ uri: process.argv[2], connectionLimit: 4, rowsAsArray: true })
const connection = await pool.getConnection()
const value = async (text, on = connection) => (await on.query(text))[0][0][0]
const user = "SELECT substring_index(user(), '@', 1)"

say('user', await value(user))
const [prepared] = await connection.execute('SELECT CAST(? AS SIGNED), CAST(? AS CHAR), CAST(? AS CHAR)', [1, 'ä', null])
say('prepared', prepared[0].map(String))
await connection.query('CREATE TEMPORARY TABLE t (i int)')
await connection.beginTransaction()
await connection.query('INSERT INTO t VALUES (1)')
await connection.rollback()
const before = await value('SELECT count(*) FROM t')
await connection.beginTransaction()
await connection.query('INSERT INTO t VALUES (1), (2)')
await connection.commit()
say('transaction', [before, await value('SELECT count(*) FROM t')])
const [rows] = await connection.query('SELECT i, t FROM big ORDER BY i')
say('large', [rows.length, rows.reduce((sum, row) => sum + row[1].length, 0)])
say('error', await connection.query('SELECT * FROM nowhere').catch((error) => error.errno))
const running = connection.query('SELECT i FROM big WHERE SLEEP(60)').catch((error) => error.errno)
await new Promise((resolve) => setTimeout(resolve, 300))
await pool.query(`KILL QUERY ${connection.threadId}`)
say('cancelled', await running)
say('after', await value(user))
say('pool', await Promise.all([1, 2, 3].map(() => value(user, pool))))
connection.release()
await pool.end()
const single = await mysql.createConnection({ uri: process.argv[2], rowsAsArray: true })
say('again', await value(user, single))
await single.end()
