import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { setTimeout as wait } from 'node:timers/promises'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { openKafkaLog, type KafkaLogOptions, type KafkaStreamLog } from '../../src/log/kafka/log.ts'
import { parseKafkaUrl, type KafkaAddress } from '../../src/log/kafka/options.ts'
import { kafkaBroker } from '../../tools/services/kafka-broker.ts'
import { halt, type Started } from '../../tools/services/process.ts'
import { tcpProxy, type TcpProxy } from './tcp-proxy.ts'

/** A prefix that no other test has. */
export function testPrefix(): string {
  return `kymo-test-${randomUUID().slice(0, 8)}.`
}

export function testLog(url: string | KafkaAddress, o: Partial<KafkaLogOptions> = {}): KafkaStreamLog {
  const address = typeof url === 'string' ? parseKafkaUrl(url) : url
  return openKafkaLog({ env: nodeEnv(silentLogger), address, prefix: testPrefix(), partitions: 4, replication: 1, ...o })
}

export async function until(what: string, met: () => Promise<boolean> | boolean, ms = 60_000): Promise<void> {
  for (const end = Date.now() + ms; Date.now() < end; await wait(50)) if (await met()) return
  throw new Error(`${what}: it never came to pass`)
}

/** Seconds without a heartbeat after which a member of a group is given up by the broker of `ownBroker`: the default of 45 makes each test as long. */
export const sessionMs = 6_000

/** A broker of a test's own, to be killed and cut off. */
export interface OwnBroker {
  /** Straight to it, and by way of the proxy that it sends clients to. */
  readonly url: string
  readonly proxy: TcpProxy
  kill(): Promise<void>
  start(): Promise<void>
  close(): Promise<void>
}

/** Needs KYMO_TEST_KAFKA_LIBS. */
export async function ownBroker(): Promise<OwnBroker> {
  const libs = process.env['KYMO_TEST_KAFKA_LIBS']
  if (libs === undefined) throw new Error('KYMO_TEST_KAFKA_LIBS is not set (npm run test:services)')
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-kafka-'))
  let plain = 0
  const proxy = await tcpProxy(() => plain)
  const broker = await kafkaBroker({
    dir,
    libs,
    advertised: proxy.port,
    settings: [
      'group.consumer.min.session.timeout.ms=1000',
      `group.consumer.session.timeout.ms=${sessionMs}`,
      'group.consumer.min.heartbeat.interval.ms=500',
      'group.consumer.heartbeat.interval.ms=1000',
    ],
  })
  plain = broker.ports.plain
  let running: Started | undefined
  try {
    running = await broker.start()
  } catch (thrown) {
    await proxy.close()
    fs.rmSync(dir, { recursive: true, force: true })
    throw thrown
  }
  return {
    url: `kafka://127.0.0.1:${proxy.port}`,
    proxy,
    async kill() {
      if (running !== undefined) await halt(running, 'SIGKILL', 5_000)
      running = undefined
    },
    async start() {
      running ??= await broker.start()
    },
    async close() {
      if (running !== undefined) await halt(running, 'SIGKILL', 5_000)
      await proxy.close()
      fs.rmSync(dir, { recursive: true, force: true })
    },
  }
}
