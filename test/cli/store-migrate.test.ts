import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { openSqliteForecasts } from '../../src/store/forecasts/sqlite.ts'
import { issue } from '../contract/forecast-store.ts'
import { runKymo } from '../support/server.ts'

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-migrate-'))
after(() => fs.rmSync(dir, { recursive: true, force: true }))
const key = { tenant: 'default', device: 'd', metric: 'v' }

test('kymo store migrate makes the file of predictions, leaves one that is there, and says what it cannot use; kymo doctor says the same', async () => {
  const data = path.join(dir, 'data')
  const file = path.join(data, 'forecasts.sqlite')
  const doctor = async (): Promise<string> =>
    (await runKymo(['doctor', '--data', data])).output.split('\n').find((line) => line.includes(' forecasts ')) ?? ''
  fs.mkdirSync(data)
  assert.match(await doctor(), /none yet/)
  const made = await runKymo(['store', 'migrate', '--data', data])
  assert.equal(made.code, 0, made.output)
  assert.match(made.output, /forecast\.url .*forecasts\.sqlite: made the file/)
  const store = openSqliteForecasts({ path: file, env: nodeEnv(silentLogger) })
  await store.write([issue(key)], [])
  const again = await runKymo(['store', 'migrate', '--data', data])
  assert.match(again.output, /nothing to do/)
  assert.equal((await store.stats()).predictions, 24)
  await store.close()
  assert.match(await doctor(), /forecasts\.sqlite, /)
  fs.writeFileSync(file, 'something else, and more of it than the hundred bytes that the header of a database has'.repeat(3))
  const refused = await runKymo(['store', 'migrate', '--data', data])
  assert.equal(refused.code, 5, refused.output)
  assert.match(refused.output, /KYMO-E223/)
  assert.match(await doctor(), /KYMO-E223/)
})
