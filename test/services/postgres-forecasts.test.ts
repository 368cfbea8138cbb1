import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import type { SeriesKey } from '../../src/core/batch.ts'
import { KymoError, type Code } from '../../src/core/errors.ts'
import { limits } from '../../src/core/limits.ts'
import { openPostgresForecasts } from '../../src/store/forecasts/postgres.ts'
import { forecastStoreContract, hourUs, issue, startUs } from '../contract/forecast-store.ts'
import { newSchema } from '../support/postgres-stores.ts'
import { RunningServer, runKymo } from '../support/server.ts'
import { tcpProxy } from '../support/tcp-proxy.ts'

const url = process.env['KYMO_TEST_POSTGRES_URL']
const key: SeriesKey = { tenant: 'default', device: 'd', metric: 'temperature' }
const all = { fromUs: 0, toUs: limits.timeUsMax, limit: 100_000 }
const dayUs = 24 * hourUs
const has = (code: Code) => (thrown: unknown) => thrown instanceof KymoError && thrown.code === code

if (url === undefined) describe('forecasts in PostgreSQL', { skip: 'KYMO_TEST_POSTGRES_URL is not set (npm run test:services)' }, () => undefined)
else {
  forecastStoreContract({
    name: 'PostgreSQL',
    create: () => Promise.resolve(newSchema(url)),
    open: (location) => Promise.resolve(openPostgresForecasts({ url: location })),
  })

  describe('forecasts in PostgreSQL', () => {
    const using = async (run: (location: string, client: pg.Client) => Promise<void>): Promise<void> => {
      const { location, schema, remove } = newSchema(url)
      const client = new pg.Client({ connectionString: url, options: `-c search_path=${schema} -c timezone=UTC` })
      await client.connect()
      try {
        await run(location, client)
      } finally {
        await client.end()
        await remove()
      }
    }

    it('has two writers of the same series at once: one of each prediction, and all counted', async () => {
      await using(async (location) => {
        const [one, two] = [openPostgresForecasts({ url: location }), openPostgresForecasts({ url: location })]
        const keys = Array.from({ length: 20 }, (_, n) => ({ ...key, device: `d${n}` }))
        const write = async (store: typeof one, from: number, order: readonly SeriesKey[]): Promise<void> => {
          for (let n = 0; n < 6; n++) {
            const issueUs = startUs + n * hourUs
            const states = order.map((of) => ({ key: of, version: 1, atUs: issueUs, bytes: Uint8Array.of(from) }))
            await store.write(
              order.map((of) => issue(of, { issueUs, from })),
              states,
            )
          }
        }
        const erasing = async (): Promise<void> => {
          for (let n = 0; n < 5; n++) await two.erase('default', 'd19')
        }
        await Promise.all([write(one, 1, keys), write(two, 2, keys.toReversed()), two.expire({ predictionsBeforeUs: startUs - dayUs, versions: 1 })])
        assert.equal((await one.stats()).predictions, 20 * 6 * 24)
        for (const of of keys) {
          const found = await two.predictions({ key: of, ...all })
          assert.equal(found.length, 6 * 24)
          // An issue is of one of them as a whole.
          const firsts = Map.groupBy(found, (p) => `${p.issue_us} ${Math.round(p.mean - (p.target_us - p.issue_us) / hourUs / 3)}`)
          assert.equal(firsts.size, 6)
        }
        await Promise.all([write(one, 1, keys), erasing(), write(two, 2, keys)])
        let counted = 0
        for (const of of keys) counted += (await one.predictions({ key: of, ...all })).length
        assert.equal((await two.stats()).predictions, counted)
        await Promise.all([one.close(), two.close()])
      })
    })

    it('drops whole months, and other processes go on writing into them', async () => {
      await using(async (location, client) => {
        const [one, two] = [openPostgresForecasts({ url: location }), openPostgresForecasts({ url: location })]
        await one.write([issue(key)], [])
        await two.write([issue(key), issue(key, { issueUs: startUs + 40 * dayUs })], [])
        const months = async (): Promise<string> => {
          const { rows } = await client.query<{ name: string }>(
            `SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'prediction'::regclass ORDER BY 1`,
          )
          return rows.map(({ name }) => name).join(' ')
        }
        assert.equal(await months(), 'prediction_2026_11 prediction_2026_12 prediction_2027_01')
        assert.equal(await one.expire({ predictionsBeforeUs: startUs + 20 * dayUs, versions: 1 }), 24)
        assert.equal(await months(), 'prediction_2026_12 prediction_2027_01')
        await two.write([issue(key)], [])
        assert.equal((await one.stats()).predictions, 48)
        assert.equal((await one.latest([key]))[0]?.predictions[0]?.issue_us, startUs + 40 * dayUs)
        const { rows } = await client.query<{ time: Date; mean: number }>(
          `SELECT time, mean FROM predictions WHERE device = 'd' ORDER BY time, issued LIMIT 2`,
        )
        assert.deepEqual(rows[0]?.time, new Date(startUs / 1000))
        await Promise.all([one.close(), two.close()])
      })
    })

    it('has its tables made by kymo store migrate, and says that it answers to kymo doctor', async () => {
      await using(async (location, client) => {
        const data = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-forecasts-pg-'))
        try {
          // As the seed's operators name it.
          const env = { HEROKU_POSTGRESQL_PURPLE_URL: location }
          const doctor = async (): Promise<string> =>
            (await runKymo(['doctor', '--data', data], { env })).output.split('\n').find((line) => line.includes(' forecasts ')) ?? ''
          assert.match(await doctor(), /nothing there yet/)
          const made = await runKymo(['store', 'migrate', '--data', data], { env })
          assert.equal(made.code, 0, made.output)
          assert.match(made.output, /forecast\.url .*: made 0001-forecasts/)
          assert.ok(!made.output.includes('kymo@'), 'who logs in is not told')
          assert.equal((await client.query('SELECT * FROM predictions')).rows.length, 0)
          assert.match((await runKymo(['store', 'migrate', '--data', data], { env })).output, /nothing to do/)
          assert.match(await doctor(), /in PostgreSQL, version 1/)
          assert.deepEqual(fs.globSync('*.sqlite', { cwd: data }), [])
          const dumped = await runKymo(['backup', path.join(data, 'dump'), '--forecast-url', location])
          assert.equal(dumped.code, 0, dumped.output)
          assert.equal(fs.globSync('dump/*.dump', { cwd: data }).length, 1)
        } finally {
          fs.rmSync(data, { recursive: true })
        }
      })
    })

    it('is no condition for a server to start and to take readings; it is made use of when it answers', async () => {
      await using(async (location, client) => {
        let port = 1
        const proxy = await tcpProxy(() => port)
        const through = new URL(location)
        const real = Number(through.port)
        through.port = String(proxy.port)
        const server = await RunningServer.start({ env: { KYMO_FORECAST_URL: through.toString(), KYMO_FORECAST_POLL_S: '1' } })
        try {
          const body = JSON.stringify({ device: 'd', values: { v: 1 } })
          const sent = await fetch(`${server.http}/api/v1/telemetry`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
          assert.ok(sent.ok)
          const health = async (): Promise<readonly { name: string; ok: boolean }[]> =>
            ((await (await fetch(`${server.http}/health`)).json()) as { components: { name: string; ok: boolean }[] }).components
          const told = async (wanted: boolean): Promise<void> => {
            for (const end = performance.now() + 60_000; performance.now() < end; await delay(200))
              if ((await health()).some(({ name, ok }) => name === 'forecasts' && !ok) === wanted) return
            assert.fail(`nobody was told that the database ${wanted ? 'is away' : 'is back'}`)
          }
          await told(true)
          assert.equal((await fetch(`${server.http}/readyz`)).status, 200)
          port = real
          await told(false)
          assert.equal((await client.query('SELECT * FROM predictions')).rows.length, 0)
          assert.deepEqual(fs.globSync('forecasts*', { cwd: server.data }), [])
        } finally {
          await server.dispose()
          await proxy.close()
        }
      })
    })

    it('refuses tables of a newer version, and says when nobody answers', async () => {
      await using(async (location, client) => {
        const one = openPostgresForecasts({ url: location })
        await one.stats()
        await one.close()
        await client.query(`INSERT INTO migration (component, version, name) VALUES ('forecasts', 999, 'later')`)
        const two = openPostgresForecasts({ url: location })
        await assert.rejects(two.stats(), has('store_format'))
        await client.query('DELETE FROM migration WHERE version = 999')
        assert.equal((await two.stats()).predictions, 0)
        await two.close()
      })
      const nobody = openPostgresForecasts({ url: 'postgres://kymo@127.0.0.1:1/kymo' })
      await assert.rejects(nobody.stats(), has('store_unavailable'))
      await nobody.close()
    })
  })
}
