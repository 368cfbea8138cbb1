import assert from 'node:assert/strict'
import test from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { Topic, type LogRecord, type Span } from '../../src/core/record.ts'
import { StorePartition } from '../../src/roles/store-partition.ts'
import { ModelStore } from '../support/model-store.ts'
import { batchOf } from '../support/store-batches.ts'

const t0 = 1_767_225_600_000_000
const env = nodeEnv(silentLogger)
const never = new AbortController().signal
const place = { log: 'log', topic: Topic.telemetry, partition: 3 }

function at(first: number, next = first + 1): Span {
  return { ...place, first: BigInt(first), next: BigInt(next) }
}

function record(offset: number): LogRecord {
  const batch = batchOf([{ device: 'd', timeUs: t0 + offset * 1e6, value: offset }])
  return { topic: Topic.telemetry, kind: 'readings', key: '', offset: BigInt(offset), receivedUs: t0 + offset * 1e6, batch }
}

function partition(store: ModelStore, settled: bigint[] = []): StorePartition {
  return new StorePartition({ store, env, counts: { duplicates: 0, corrections: 0, late: 0 }, onSettled: (next) => settled.push(next) }, never)
}

async function statesAt(store: ModelStore): Promise<bigint | undefined> {
  return (await store.resume(place.log, place.topic, place.partition))?.states.find(({ operator }) => operator === 'rollup')?.at
}

/** A store with records 0, 1 and 2 of a partition, and states that have seen record 0: what a process leaves that was killed. */
async function left(): Promise<ModelStore> {
  const store = new ModelStore()
  const killed = partition(store)
  await killed.restore(place)
  for (const offset of [0, 1, 2]) await killed.write([record(offset)], at(offset), never)
  killed.abandon()
  assert.equal(await statesAt(store), 1n)
  return store
}

void test('who reads again what is stored, and is stopped on the way, leaves the states as they were', async () => {
  const store = await left()
  const next = partition(store)
  assert.equal(await next.restore(place), 1n)
  next.feed([record(1)], at(1))
  await next.stop()
  assert.equal(await statesAt(store), 1n, 'states that have not seen record 2 are not those of offset 3')
})

void test('who has read again all that is stored writes the states, though nothing new comes', async () => {
  const store = await left()
  const settled: bigint[] = []
  const next = partition(store, settled)
  await next.restore(place)
  next.feed([record(1), record(2)], at(1, 3))
  for (const end = Date.now() + 20_000; settled.length === 0 && Date.now() < end;) await delay(10)
  assert.deepEqual(settled, [3n])
  assert.equal(await statesAt(store), 3n)
  await next.stop()
})
