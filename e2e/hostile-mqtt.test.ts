/**
 * Hostile clients of the MQTT door beside a bystander that publishes at QoS 1 every 20 ms and subscribes to its own messages. Nothing that is sent may take
 * the server down, hold the bystander up, or lose what it was acknowledged.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { connect } from '../test/mqtt/client-packets.ts'
import { eventually, readings, settled } from '../test/support/api.ts'
import { RunningServer } from '../test/support/server.ts'
import { behaviours, lasting, letGo } from './hostile-mqtt-behaviour.ts'
import type { BystanderInput, BystanderResult } from './hostile-mqtt-bystander.ts'
import { hostilePackets, type HostilePacket } from './hostile-mqtt-cases.ts'
import { connect5, Hostile, inParallel } from './hostile-mqtt-wire.ts'
import { told } from './hostile-phases.ts'

/**
 * What the bystander may wait, beyond what the machine took by itself for a timer, a write and a sync at the same time. On a machine of its own it is 20 ms
 * (p99) and 250 ms; here the hostile clients, the bystander and other tests share its cores with the server.
 */
const p99MsMax = 100
const maxMsMax = 400
/** The server's own figure, of which the same is taken off: no turn of its main thread may be longer. */
const stallSMax = 0.2
/** An answer is made by several threads of two processes, each of which may wait as long as the machine makes anybody wait. */
const steps = 3
const quietMs = 2_000
const rssGrowthMbMax = 512
const descriptorsMax = 32
const most = 24

let server: RunningServer
let bystander: Worker
let startRssMb: number
let startDescriptors: number
let firstMs: number
let stallS: number

const rssMb = (): number => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${server.serverPid}/status`, 'utf8'))?.[1]) / 1024
const descriptors = (): number => readdirSync(`/proc/${server.serverPid}/fd`).length

async function figures(): Promise<ReadonlyMap<string, number>> {
  const text = await (await fetch(`${server.http}/metrics`)).text()
  return new Map([...text.matchAll(/^(kymo_\S+) (\S+)$/gm)].map(([, name = '', value]) => [name, Number(value)]))
}

async function check(row: HostilePacket, n: number): Promise<void> {
  const client = row.greeted === undefined ? await Hostile.open(server.mqttPort) : await Hostile.greeted(server.mqttPort, row.greeted, `row-${n}`)
  try {
    client.send(row.bytes)
    if (row.half === true) client.socket.end()
    if (typeof row.outcome === 'number') {
      const reason = await client.reason()
      assert.equal(reason, row.outcome, `${row.name}: 0x${reason?.toString(16)}`)
    } else if (row.outcome === 'stays') assert.equal(await client.alive(), true, `${row.name}: the connection ended`)
    else await client.until(() => client.closed)
  } catch (error) {
    throw new Error(row.name, { cause: error })
  } finally {
    client.destroy()
  }
}

function phase(name: string): void {
  bystander.postMessage(name)
}

describe('hostile MQTT beside a bystander', () => {
  before(async () => {
    server = await RunningServer.start()
    firstMs = Date.now() - 60_000
    const workerData: BystanderInput = { port: server.mqttPort, file: path.join(server.data, 'bystander.tmp'), firstMs }
    bystander = new Worker(new URL('hostile-mqtt-bystander.ts', import.meta.url), { workerData })
    // The first messages compile what takes them.
    await delay(quietMs / 2)
    phase('quiet')
    await delay(quietMs)
    startRssMb = rssMb()
    startDescriptors = descriptors()
    phase('hostile')
  })
  after(async () => {
    letGo()
    await bystander?.terminate()
    await server?.dispose()
  })

  const ports = (): { readonly mqtt: number; readonly http: number } => ({ mqtt: server.mqttPort, http: server.httpPort })
  for (const { name, run } of lasting) it(name, () => run(ports()))

  it(`${hostilePackets.length} packets, each over a connection of its own`, async () => {
    assert.ok(hostilePackets.length > 500)
    const failures: unknown[] = []
    await inParallel(hostilePackets.entries(), most, ([n, row]) => check(row, n).catch((error: unknown) => void failures.push(error)))
    assert.deepEqual(failures.slice(0, 20), [])
  })

  for (const { name, run } of behaviours)
    it(name, async () => {
      phase(name)
      await run(ports())
    })

  it('lets a client in meanwhile, in both versions', async () => {
    for (const bytes of [connect({ clientId: 'guest' }), connect5('guest')]) {
      const guest = await Hostile.open(server.mqttPort)
      guest.send(bytes)
      assert.equal((await guest.next(0x20))?.body[1], 0)
      guest.destroy()
    }
  })

  it('was the same server all the time, has counted what it dropped, and has let go of what it held', async () => {
    phase('aftermath')
    assert.equal(server.currentServerPid(), server.serverPid)
    assert.doesNotMatch(server.output, /session failed|KYMO-E9/)
    const now = await figures()
    for (const reason of ['slow_subscriber', 'queue_full'])
      assert.ok((now.get(`kymo_mqtt_dropped_total{reason="${reason}"}`) ?? 0) > 0, `nothing was dropped for ${reason}`)
    assert.ok((now.get('kymo_mqtt_session_dropped_total{reason="retained_bytes"}') ?? 0) > 0, 'as much was retained as was asked for')
    for (const reason of ['protocol', 'limit', 'taken_over']) assert.ok((now.get(`kymo_mqtt_disconnects_total{reason="${reason}"}`) ?? 0) > 0, reason)
    assert.equal(now.get('kymo_mqtt_disconnects_total{reason="error"}') ?? 0, 0)
    stallS = now.get('kymo_event_loop_stall_max_seconds{window="start"}') ?? Number.NaN
    letGo()
    const open = await eventually(async () => (descriptors() <= startDescriptors + descriptorsMax ? descriptors() : undefined))
    await eventually(async () => {
      const connections = (await figures()).get('kymo_mqtt_connections')
      if (connections !== 1) throw new Error(`${connections} connections are open, the bystander's among them`)
      return true
    })
    const rss = await eventually(async () => (rssMb() <= startRssMb + rssGrowthMbMax ? rssMb() : undefined))
    process.stdout.write(
      `server: RSS ${startRssMb.toFixed(0)} MB before, ${rss.toFixed(0)} MB after; descriptors ${startDescriptors} before, ${open} after; longest turn ${stallS} s\n`,
    )
  })

  it('held the bystander up for no longer than it may, and every message came as it was acknowledged', async () => {
    bystander.postMessage('end')
    const [result] = (await once(bystander, 'message')) as [BystanderResult]
    for (const one of result.phases) process.stdout.write(told(one))
    assert.equal(result.disconnects, 0)
    const all = Array.from({ length: result.sent }, (_, i) => i + 1)
    assert.ok(all.length > 200)
    assert.deepEqual(result.acknowledged, all)
    assert.deepEqual(result.received, all)
    for (const { name, answers, p99Ms, maxMs, machineMs } of result.phases.slice(2)) {
      const bound = maxMsMax + steps * machineMs
      assert.ok(!(maxMs > bound), `${name}: an answer took ${maxMs.toFixed(1)} ms; ${bound.toFixed(1)} ms are allowed`)
      if (answers >= 100) assert.ok(p99Ms <= p99MsMax + steps * machineMs, `${name}: p99 is ${p99Ms.toFixed(1)} ms`)
    }
    const machineS = Math.max(...result.phases.map(({ machineMs }) => machineMs)) / 1_000
    assert.ok(stallS <= stallSMax + steps * machineS, `a turn of the server's main thread took ${stallS} s, the machine alone ${machineS} s`)
    await settled(server.http)
    const stored = await readings(server.http, { device: 'bystander', metric: 'n', from: firstMs })
    assert.deepEqual(
      stored.map(({ value }) => Number(value)).toSorted((a, b) => a - b),
      all,
    )
  })
})
