/**
 * What is usually put between a broker and a database: MQTT.js subscribes at QoS 1, JSON.parse, and a multi-row INSERT of up to 1,000 rows, or of what has
 * come within 100 ms. A process of its own: node bench/assembly.ts '{"port":1883,"url":"postgres://…"}'. Prints `ready`, and ends on SIGTERM.
 */
import process from 'node:process'
import { connect } from 'mqtt'
import { Pool } from 'pg'

export interface Assembly {
  readonly port: number
  readonly url: string
}

interface Row {
  readonly device_id: string
  readonly timestamp: number
  readonly temperature: number
  readonly humidity: number
  readonly battery: number
}

const rowsMax = 1_000
const lingerMs = 100

async function main({ port, url }: Assembly): Promise<void> {
  const pool = new Pool({ connectionString: url, max: 2 })
  await pool.query('DROP TABLE IF EXISTS telemetry')
  await pool.query(
    'CREATE TABLE telemetry (time timestamptz NOT NULL, device_id text NOT NULL, temperature double precision, humidity double precision, battery double precision)',
  )
  await pool.query('CREATE INDEX ON telemetry (device_id, time DESC)')
  let rows: Row[] = []
  let timer: NodeJS.Timeout | undefined
  const insert = async (batch: readonly Row[]): Promise<void> => {
    const places = batch.map((_, i) => `(to_timestamp($${5 * i + 1}), $${5 * i + 2}, $${5 * i + 3}, $${5 * i + 4}, $${5 * i + 5})`)
    const values = batch.flatMap((row) => [row.timestamp / 1000, row.device_id, row.temperature, row.humidity, row.battery])
    await pool.query(`INSERT INTO telemetry VALUES ${places.join(', ')}`, values)
  }
  const flush = (): void => {
    clearTimeout(timer)
    timer = undefined
    const batch = rows
    rows = []
    if (batch.length === 0) return
    insert(batch).catch((error: unknown) => {
      process.stderr.write(`${String(error)}\n`)
      process.exit(1)
    })
  }
  const client = connect(`mqtt://127.0.0.1:${port}`, { clientId: 'assembly' })
  client.on('message', (_, payload) => {
    rows.push(JSON.parse(payload.toString()) as Row)
    if (rows.length >= rowsMax) flush()
    else timer ??= setTimeout(flush, lingerMs)
  })
  await client.subscribeAsync('portfolio/telemetry', { qos: 1 })
  process.stdout.write('ready\n')
  process.on('SIGTERM', () => process.exit(0))
}

await main(JSON.parse(process.argv[2] ?? '{}') as Assembly)
