import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, it } from 'node:test'
import { Flag } from '../../src/core/batch.ts'
import { BatchBuilder } from '../../src/core/batch-builder.ts'
import type { KymoError } from '../../src/core/errors.ts'
import { isLineShape, type MessageContext, type Shape } from '../../src/core/gate.ts'
import { SeriesTable } from '../../src/core/series-table.ts'
import { firstByte } from '../../src/wire/json/text.ts'
import { LineSplitter } from '../../src/wire/line/lines.ts'
import { LineDecoder } from '../../src/wire/line-decoder.ts'
import { PayloadDecoder } from '../../src/wire/payload/decoder.ts'
import { ItemSplitter } from '../../src/wire/payload/items.ts'
import { defaultTelemetryTopics, TelemetryTopics } from '../../src/wire/topics.ts'
import { badInput, tableAsMarkdown, type BadInput, type Route } from './table.ts'

const topics = new TelemetryTopics(defaultTelemetryTopics)
const receivedUs = 1_790_000_000_000_000

/** What the HTTP door does with `/ingest`, INTERFACES A2, collision 1. */
function shapeOf(route: Route, text: string): Shape {
  if (route === 'telemetry' || route === 'mqtt') return 'any'
  if (route === 'line') return 'line-ns'
  if (route === 'sensor-data') return 'sensor-data'
  return route === 'ingest-batch' || text.includes('"metric"') ? 'data-point' : 'reading'
}

interface Refusal {
  readonly index: number
  readonly error: KymoError
}

class Bench {
  readonly series = new SeriesTable()
  readonly decoder = new PayloadDecoder({ series: this.series })
  readonly lines = new LineDecoder({ series: this.series, payload: this.decoder })
  readonly out = new BatchBuilder(this.series.keys)
  readonly refusals: Refusal[] = []

  constructor() {
    this.decoder.oldestUs = receivedUs - 50 * 365 * 86_400e6
  }

  submit(row: BadInput, route: Route, device: string, body: string | Uint8Array): void {
    const bytes = Buffer.from(body)
    const match = topics.match(row.topic?.(device) ?? 'portfolio/telemetry')
    const context: MessageContext = {
      transport: route === 'mqtt' ? 'mqtt' : 'http',
      tenant: 'default',
      client: 'test',
      topic: route,
      shape: shapeOf(route, bytes.toString('utf8')),
      packetId: 0,
      dup: false,
      ...(match.device === undefined ? {} : { topicDevice: match.device }),
    }
    if (route === 'line') {
      const lines = new LineSplitter(bytes, 0, bytes.length)
      while (lines.next()) this.#one(context, bytes, lines.start, lines.end, lines.index, lines.refusal)
      return
    }
    const ndjson = row.headers?.['content-type'] === 'application/x-ndjson'
    const first = firstByte(bytes, 0, bytes.length)
    if (ndjson || first === 0x5b) {
      const items = new ItemSplitter(bytes, 0, bytes.length, ndjson ? 'ndjson' : 'array')
      while (items.next()) this.#one(context, bytes, items.start, items.end, items.index, items.refusal)
    } else this.#one(context, bytes, 0, bytes.length, 0, undefined)
  }

  #one(context: MessageContext, bytes: Uint8Array, start: number, end: number, index: number, refused: KymoError | undefined): void {
    const { shape } = context
    const error =
      refused ??
      (isLineShape(shape)
        ? this.lines.decode(bytes, start, end, shape, context, receivedUs, this.out)
        : this.decoder.decode(bytes, start, end, context, receivedUs, this.out))
    if (error !== undefined) this.refusals.push({ index, error })
  }
}

describe('bad input, by the decoder', () => {
  for (const [i, row] of badInput.entries()) {
    // /ingest tells its shape from the whole body: what is neither is the door's to refuse.
    if (row.judge === 'door' || (row.routes.includes('ingest') && row.code === 'shape_unknown')) continue
    for (const route of row.routes) {
      it(`${row.name} (${route})`, () => {
        const bench = new Bench()
        const device = `dev-${i}`
        for (const earlier of row.before?.(device) ?? []) {
          bench.submit(row, route, device, earlier)
          // Twice: what the fast lane has seen must not weaken what it judges.
          bench.submit(row, route, device, earlier)
        }
        assert.equal(bench.refusals.length, 0, 'what came before is taken')
        bench.out.reset()
        const devicesBefore = bench.series.deviceCount
        const seriesBefore = bench.series.keys.length
        bench.submit(row, route, device, row.body(device))
        if (row.code !== undefined) {
          const only = bench.refusals[0]
          assert.ok(only !== undefined, 'it was taken')
          assert.equal(only.error.code, row.code, only.error.message)
          const errors = only.error.details.errors ?? []
          assert.ok(errors.length > 0, 'the refusal names a field')
          if (row.pointer !== undefined) assert.equal(errors[0]!.pointer, row.pointer)
          assert.equal(bench.series.deviceCount, devicesBefore, 'a refused message leaves no device')
          assert.equal(bench.series.keys.length, seriesBefore, 'nor a series')
          assert.deepStrictEqual(bench.decoder.attributeChanges, [])
        } else {
          assert.deepStrictEqual(
            bench.refusals.map(({ index, error }) => ({ index, code: error.code })),
            row.results ?? [],
          )
        }
        const batch = bench.out.view()
        assert.equal(batch.rows, row.stored)
        for (const [at, expected] of (row.values ?? []).entries()) {
          const key = batch.keys[batch.series[at]!]!
          assert.equal(key.metric, expected.metric)
          if (row.results === undefined) assert.equal(key.device, row.storedAs?.(device) ?? device)
          if (expected.value !== undefined) assert.ok(Object.is(batch.value[at], expected.value), `${key.metric} is ${batch.value[at]}`)
          if (expected.text !== undefined) {
            assert.equal(batch.text?.get(at), expected.text)
            assert.ok((batch.flags![at]! & Flag.text) !== 0 && Number.isNaN(batch.value[at]))
          }
          if (expected.timeUs !== undefined) assert.equal(batch.timeUs[at], expected.timeUs)
        }
      })
    }
  }

  it('has a unique name for each case', () => {
    assert.equal(new Set(badInput.map((row) => row.name)).size, badInput.length)
  })
})

describe('docs/reference/bad-input.md', () => {
  it('is made from the table', () => {
    const file = path.resolve(import.meta.dirname, '../../docs/reference/bad-input.md')
    assert.equal(readFileSync(file, 'utf8'), tableAsMarkdown())
  })
})
