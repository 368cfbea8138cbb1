import { writeSync } from 'node:fs'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { openSqliteForecasts } from '../../src/store/forecasts/sqlite.ts'
import { hourUs, issue, startUs } from '../contract/forecast-store.ts'

/** Run as a child: writes an issue of two series and the state of one for ever, and prints the number of each that is durable. */
const [path, round] = process.argv.slice(2)
if (path === undefined || round === undefined) throw new Error('usage: forecasts-writer FILE ROUND')
const store = openSqliteForecasts({ path, env: nodeEnv(silentLogger) })
const version = Number(round)
const keys = ['a', 'b'].map((device) => ({ tenant: 'default', device, metric: 'temperature' }))
for (let n = 0; ; n++) {
  const issueUs = startUs + n * hourUs
  const states = keys.slice(0, 1).map((key) => ({ key, version, atUs: issueUs, bytes: new Uint8Array(50_000).fill(n) }))
  await store.write(
    keys.map((key) => issue(key, { issueUs, version })),
    states,
  )
  writeSync(1, `${version} ${n}\n`)
}
