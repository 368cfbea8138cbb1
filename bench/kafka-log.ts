/**
 * The log on Kafka: node bench/kafka-log.ts, with KYMO_TEST_KAFKA_URL (npm run services). How many messages of three readings a second, CPU of this process
 * and of the broker, and bytes on the broker's disk, by how much goes into one write, by how many writers there are, by linger and compression. Figures:
 * docs/format/kafka.md.
 */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import process from 'node:process'
import { BatchBuilder } from '../src/core/batch-builder.ts'
import type { SeriesKey } from '../src/core/batch.ts'
import { nodeEnv, silentLogger } from '../src/core/env/node-env.ts'
import type { ReadingsRecord } from '../src/core/record.ts'
import type { Compression } from '../src/log/kafka/cluster.ts'
import { openKafkaLog } from '../src/log/kafka/log.ts'
import { parseKafkaUrl } from '../src/log/kafka/options.ts'
import { runningServices } from '../tools/services/services.ts'

const url = process.env['KYMO_TEST_KAFKA_URL']
if (url === undefined) throw new Error('KYMO_TEST_KAFKA_URL is not set: npm run services')
const seconds = Number(process.argv[2] ?? 3)
const devices = 1_000
const metrics = ['temperature', 'humidity', 'battery']
const never = new AbortController().signal
const env = nodeEnv(silentLogger)
const broker = runningServices().find(({ name }) => name === 'kafka')?.running?.processes['broker']?.pid

/** User and system time of the broker so far, in microseconds: proc(5), fields 14 and 15, in ticks of 10 ms. */
function brokerUs(): number {
  if (broker === undefined) return Number.NaN
  const stat = readFileSync(`/proc/${broker}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10_000
}

const keys: SeriesKey[] = Array.from({ length: devices * metrics.length }, (_, i) => ({
  tenant: 'default',
  device: `device-${Math.floor(i / metrics.length)}`,
  metric: metrics[i % metrics.length] ?? '',
}))

/** The next `messages` messages: each device in turn, values that wander as sensors' do. */
function* batches(messages: number): Generator<ReadingsRecord, never, void> {
  const builder = new BatchBuilder(keys, messages * metrics.length)
  const values = keys.map((_, i) => 20 + (i % 40) / 2)
  let timeUs = Date.now() * 1000
  for (let device = 0; ;) {
    builder.reset()
    for (let i = 0; i < messages; i++) {
      device = (device + 1) % devices
      timeUs += 1000
      for (let m = 0; m < metrics.length; m++) {
        const series = device * metrics.length + m
        values[series] = Math.round((values[series]! + (Math.random() - 0.5) / 2) * 100) / 100
        builder.add(series, timeUs, values[series]!, 0)
      }
    }
    yield { topic: 'telemetry', kind: 'readings', key: '', receivedUs: timeUs, batch: builder.view() }
  }
}

interface Case {
  readonly writers: number
  readonly messages: number
  readonly lingerMs: number
  readonly compression: Compression
}

async function measure({ writers, messages, lingerMs, compression }: Case): Promise<void> {
  const prefix = `kymo-bench-${randomUUID().slice(0, 8)}.`
  const log = openKafkaLog({ env, address: parseKafkaUrl(url ?? ''), prefix, partitions: 4, replication: 1, lingerMs, compression })
  const write = async (until: number): Promise<number> => {
    const next = batches(messages)
    let written = 0
    for (; Date.now() < until; written += messages) await log.write([next.next().value], undefined, never)
    return written
  }
  // Code and connections are cold at first.
  await write(Date.now() + 500)
  const before = { cpu: process.cpuUsage(), broker: brokerUs(), at: performance.now(), bytes: (await log.places('telemetry')).bytes }
  const counts = await Promise.all(Array.from({ length: writers }, () => write(Date.now() + seconds * 1000)))
  const readings = counts.reduce((sum, one) => sum + one, 0) * metrics.length
  const cpu = process.cpuUsage(before.cpu)
  const took = (performance.now() - before.at) / 1000
  const server = brokerUs() - before.broker
  const bytes = (await log.places('telemetry')).bytes - before.bytes
  const place = [`${writers} writers`, `${messages} messages`, `linger ${lingerMs} ms`, compression].join(', ')
  const each = (us: number): string => (us / readings).toFixed(2)
  process.stdout.write(
    `${place}: ${Math.round(readings / metrics.length / took)} messages/s, CPU ${each(cpu.user + cpu.system)} µs here and ${each(server)} µs at the broker, ${(bytes / readings).toFixed(1)} bytes a reading\n`,
  )
  await log.close()
}

for (const lingerMs of [0, 3, 10]) {
  await measure({ writers: 1, messages: 100, lingerMs, compression: 'zstd' })
  await measure({ writers: 64, messages: 1, lingerMs, compression: 'zstd' })
}
for (const compression of ['zstd', 'lz4', 'gzip', 'none'] as const) await measure({ writers: 1, messages: 1_000, lingerMs: 0, compression })
await measure({ writers: 1, messages: 10_000, lingerMs: 0, compression: 'zstd' })
