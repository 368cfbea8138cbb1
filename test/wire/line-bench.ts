import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { BatchBuilder } from '../../src/core/batch-builder.ts'
import type { KymoError } from '../../src/core/errors.ts'
import type { LineShape, MessageContext } from '../../src/core/gate.ts'
import { SeriesTable } from '../../src/core/series-table.ts'
import { LineSplitter } from '../../src/wire/line/lines.ts'
import { nameText } from '../../src/wire/line/bytes.ts'
import { measurementText } from '../../src/wire/line/names.ts'
import type { LineScanner } from '../../src/wire/line/scan.ts'
import { LineDecoder } from '../../src/wire/line-decoder.ts'
import { PayloadDecoder } from '../../src/wire/payload/decoder.ts'
import type { ReferenceLine } from './line-fuzz.ts'

export const receivedUs = 1_790_000_000_000_000

export function context(tenant = 'default', line?: number): MessageContext {
  const base = { transport: 'http', tenant, client: 'test', topic: '/write', shape: 'line-ns', packetId: 0, dup: false } as const
  return line === undefined ? base : { ...base, line }
}

/** A decoder of lines with what it writes into. */
export class Bench {
  readonly series = new SeriesTable()
  readonly payload = new PayloadDecoder({ series: this.series })
  readonly lines: LineDecoder
  readonly out = new BatchBuilder(this.series.keys)

  constructor(o: { readonly fastLane?: boolean; readonly deviceTags?: readonly string[] } = {}) {
    this.lines = new LineDecoder({ series: this.series, payload: this.payload, ...o })
  }

  take(line: string | Uint8Array, shape: LineShape = 'line-ns', at = context()): KymoError | undefined {
    const bytes = Buffer.from(line)
    return this.lines.decode(bytes, 0, bytes.length, shape, at, receivedUs, this.out)
  }

  rows(): { device: string; metric: string; timeUs: number; value: number | string; flags: number }[] {
    const batch = this.out.view()
    return Array.from({ length: batch.rows }, (_, i) => {
      const key = batch.keys[batch.series[i]!]!
      const value = batch.text?.get(i) ?? batch.value[i]!
      return { device: key.device, metric: key.metric, timeUs: batch.timeUs[i]!, value, flags: batch.flags?.[i] ?? 0 }
    })
  }
}

const kinds = ['number', 'boolean', 'text', 'bigInteger']

/** All that the scanner says of a line (nanoseconds), as the reference says it; or its refusal. */
export function scanned(scan: LineScanner, bytes: Uint8Array): ReferenceLine | KymoError {
  if (!(scan.begin(bytes, 0, bytes.length, 1) && scan.tags(bytes) && scan.fields(bytes, 0))) return scan.fault!
  return {
    measurement: measurementText(bytes, scan),
    tags: Array.from({ length: scan.tagCount }, (_, i) => [
      nameText(bytes, scan.tagStart[i]!, scan.tagEquals[i]!),
      nameText(bytes, scan.tagEquals[i]! + 1, scan.tagEnd[i]!),
    ]),
    fields: Array.from({ length: scan.fieldCount }, (_, i) => ({
      name: scan.fieldName(bytes, i),
      kind: kinds[scan.kind[i]!]!,
      value: scan.value[i]!,
      text: scan.text(bytes, i),
    })),
    timeUs: scan.timeUs,
  }
}

export function split(body: string, itemsMax?: number): [number, string][] {
  const bytes = Buffer.from(body)
  const lines = new LineSplitter(bytes, 0, bytes.length, itemsMax)
  const found: [number, string][] = []
  while (lines.next()) {
    if (lines.skipping) continue
    assert.equal(lines.index, found.length)
    found.push([lines.line, bytes.toString('utf8', lines.start, lines.end)])
  }
  return found
}
