import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { readings, settled, status } from '../test/support/api.ts'
import { RunningServer, runKymo } from '../test/support/server.ts'
import { httpSender, mqttSender, seeded, type Sender } from './ledger.ts'

interface Done {
  readonly id: string
  readonly stalled_ms: number
  readonly source: string
}

async function kymo(...args: string[]): Promise<string> {
  const { code, output } = await runKymo([...args, '--json'])
  assert.equal(code, 0, output)
  return output
}

async function backUp(repo: string, ...from: string[]): Promise<Done> {
  return JSON.parse(await kymo('backup', repo, ...from)) as Done
}

/** What each sender has said and what it was acknowledged for, at this moment. */
function noted(senders: readonly Sender[]): ReadonlyMap<string, ReadonlySet<number>> {
  return new Map(senders.map(({ ledger }) => [ledger.device, new Set(ledger.acknowledged)]))
}

/** Everything acknowledged before is there once, nothing is there that was not sent before. */
async function check(base: string, before: ReadonlyMap<string, ReadonlySet<number>>, sentThen: ReadonlyMap<string, number>, all: readonly Sender[]) {
  await settled(base)
  for (const { ledger } of all) {
    const stored = await readings(base, { device: ledger.device, metric: 'seq' })
    const values = stored.map(({ value }) => Number(value))
    assert.equal(new Set(values).size, values.length, `${ledger.device}: a reading is there twice`)
    const there = new Set(values)
    const lost = [...(before.get(ledger.device) ?? [])].filter((value) => !there.has(value))
    assert.deepEqual(lost, [], `${ledger.device}: acknowledged before the backup began`)
    const later = values.filter((value) => value < 1 || value > (sentThen.get(ledger.device) ?? 0))
    assert.deepEqual(later, [], `${ledger.device}: was not sent when the backup was done`)
    if (ledger.times !== undefined) for (const { value, timeMs } of stored) assert.equal(timeMs, ledger.times.get(Number(value)))
  }
}

const sent = (senders: readonly Sender[]): ReadonlyMap<string, number> => new Map(senders.map(({ ledger }) => [ledger.device, ledger.sent]))

test('backups under load, while the store seals: restored ones have what was acknowledged, once', { timeout: 180_000 }, async (t) => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-backup-'))
  const repo = path.join(dir, 'backups')
  const server = await RunningServer.start({ data: path.join(dir, 'data') })
  const { mqttPort, httpPort } = server
  const senders: Sender[] = []
  const moments: { id: string; before: ReadonlyMap<string, ReadonlySet<number>>; after: ReadonlyMap<string, number> }[] = []
  try {
    for (let i = 0; i < 2; i++) {
      senders.push(mqttSender({ port: () => mqttPort, device: `mqtt-timed-${i}`, ownTime: true, random: seeded(10 + i) }))
      senders.push(mqttSender({ port: () => mqttPort, device: `mqtt-untimed-${i}`, ownTime: false, random: seeded(20 + i) }))
      senders.push(httpSender({ port: () => httpPort, device: `http-timed-${i}`, ownTime: true, random: seeded(30 + i), run: 'b' }))
      senders.push(httpSender({ port: () => httpPort, device: `http-key-${i}`, ownTime: false, random: seeded(40 + i), run: 'b' }))
    }
    // Each backup closes the hot file; the store looks every ten seconds for what is to be sealed.
    for (let n = 0; n < 7; n++) {
      await delay(2_000)
      const before = noted(senders)
      const from = n % 2 === 0 ? ['--data', server.data] : ['--url', server.http]
      const { id, stalled_ms, source } = await backUp(repo, ...from)
      assert.equal(source, 'server')
      moments.push({ id, before, after: sent(senders) })
      t.diagnostic(`backup ${n}: the store took ${stalled_ms} ms for its snapshot`)
    }
    assert.ok(fs.readdirSync(path.join(server.data, 'store/sealed')).length > 1, 'nothing was sealed meanwhile')
    assert.equal(fs.existsSync(path.join(server.data, 'snapshots')), false, 'a snapshot was left behind')
    assert.match(await kymo('backup', 'verify', repo), /"ok":true/)

    for (const sender of senders) await sender.finish(30_000)
    await server.stop()
    // Of the stopped server too, and this one has all.
    const last = await backUp(repo, '--data', server.data)
    assert.equal(last.source, 'directory')
    moments.push({ id: last.id, before: noted(senders), after: sent(senders) })

    for (const n of [0, moments.length - 2, moments.length - 1]) {
      const { id, before, after } = moments[n]!
      const data = path.join(dir, `restored-${n}`)
      await kymo('restore', repo, '--backup', id, '--data', data)
      const restored = await RunningServer.start({ data })
      try {
        await check(restored.http, before, after, senders)
        assert.equal((await status(restored.http)).devices, senders.length)
        // It goes on: what is sent to it now is stored as well.
        const body = JSON.stringify({ device: 'new', values: { v: n } })
        const answer = await fetch(`${restored.http}/api/v1/telemetry`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
        assert.equal(answer.status, 202)
        await settled(restored.http)
        assert.equal((await readings(restored.http, { device: 'new' })).length, 1)
      } finally {
        await restored.stop()
      }
    }
  } finally {
    for (const sender of senders) sender.stop()
    await server.dispose()
    fs.rmSync(dir, { recursive: true, force: true })
  }
})

test('restore to a moment: between two backups too, and a moment that cannot be reached is refused', { timeout: 90_000 }, async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-backup-'))
  const repo = path.join(dir, 'backups')
  const server = await RunningServer.start({ data: path.join(dir, 'data') })
  const send = async (v: number): Promise<void> => {
    const body = JSON.stringify({ device: 'd', timestamp: 1_795_000_000_000 + v, values: { v } })
    const answer = await fetch(`${server.http}/api/v1/telemetry`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
    assert.equal(answer.status, 202, await answer.text())
  }
  const now = async (): Promise<string> => {
    await delay(5)
    const moment = new Date().toISOString()
    await delay(5)
    return moment
  }
  try {
    const early = await now()
    for (let v = 0; v < 10; v++) await send(v)
    await settled(server.http)
    await backUp(repo, '--url', server.http)
    for (let v = 10; v < 20; v++) await send(v)
    const between = await now()
    for (let v = 20; v < 30; v++) await send(v)
    await settled(server.http)
    const second = await backUp(repo, '--url', server.http)
    for (const [name, args, count] of [
      ['newest', [], 30],
      ['between', ['--until', between], 20],
    ] as const) {
      const data = path.join(dir, name)
      await kymo('restore', repo, '--data', data, ...args)
      const restored = await RunningServer.start({ data })
      const values = (await settled(restored.http), await readings(restored.http, { device: 'd' })).map(({ value }) => value)
      assert.deepEqual(
        values,
        Array.from({ length: count }, (_, v) => v),
        name,
      )
      await restored.stop()
    }
    const refused = await runKymo(['restore', repo, '--data', path.join(dir, 'early'), '--until', early])
    assert.equal(refused.code, 5)
    assert.match(refused.output, /KYMO-E217/)
    assert.match(refused.output, new RegExp(second.id), 'the moments that there are')
    assert.equal(fs.existsSync(path.join(dir, 'early')), false)
    const full = await runKymo(['restore', repo, '--data', path.join(dir, 'newest')])
    assert.match(full.output, /is not empty/)
    const inUse = await runKymo(['restore', repo, '--data', server.data])
    assert.match(inUse.output, /is not empty/)
  } finally {
    await server.dispose()
    fs.rmSync(dir, { recursive: true, force: true })
  }
})
