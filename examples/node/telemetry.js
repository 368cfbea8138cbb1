// Sends readings, follows them live, asks for averages: node telemetry.js
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { createClient, KymoError } from 'kymo/client'

const client = createClient({ url: process.env.KYMO_URL ?? 'http://127.0.0.1:8080', token: process.env.KYMO_TOKEN })
const device = process.env.KYMO_DEVICE ?? 'example-node'

try {
  // Messages are gathered into requests; each promise is kept once its message is durable.
  const batch = client.batcher({ maxItems: 100, maxDelayMs: 50 })
  let seen = 0
  for await (const event of client.live({ devices: [device] })) {
    if (event.type === 'open') {
      const sent = Array.from({ length: 10 }, (_, i) => batch.add({ device_id: device, temperature: 20 + i / 10, time: Date.now() + i }))
      await Promise.all(sent)
    } else if (event.type === 'readings') {
      for (const { time, metric, value } of event.readings) console.log(time, metric, value)
      seen += event.readings.length
    } else console.warn('some readings were not told live; a query has them')
    if (seen >= 10) break
  }

  // What is acknowledged is durable; queries have it within a second.
  await delay(1000)
  for await (const row of client.rows({ device: [device], from: '-1h', step: '1h', agg: ['avg', 'count'] })) {
    console.log(new Date(row.time).toISOString(), row.metric, 'average', row.avg, 'of', row.count)
  }
} catch (error) {
  if (!(error instanceof KymoError)) throw error
  console.error(`${error.code}: ${error.detail}`, ...error.errors)
  process.exitCode = 1
}
