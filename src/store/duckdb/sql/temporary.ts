import {
  DuckDBDataChunk,
  DuckDBTimestampValue,
  TIMESTAMP,
  UINTEGER,
  VARCHAR,
  type DuckDBConnection,
  type DuckDBType,
  type DuckDBValue,
} from '@duckdb/node-api'
import type { SqlDevices } from '../../../core/sql.ts'
import { chunkRows } from '../appender.ts'
import { field, levelWidth, stateWidth } from '../series-state.ts'
import type { Level } from '../sql.ts'
import { boundsTable, devicesTable } from './views.ts'

/** Between `minuteFrom` and `minuteTo`, and before `hourTo`, a series has rollup rows; all of its other rows are in none. */
export interface Bounds {
  readonly series: readonly number[]
  readonly minuteFrom: readonly number[]
  readonly minuteTo: readonly number[]
  readonly hourTo: readonly number[]
}

export function boundsOf(ids: ArrayLike<number>, cells: Float64Array): Bounds {
  const bounds = { series: [] as number[], minuteFrom: [] as number[], minuteTo: [] as number[], hourTo: [] as number[] }
  for (const id of Array.from(ids)) {
    const at = id * stateWidth
    // A series that is not there has no rows.
    if (at >= cells.length) continue
    bounds.series.push(id)
    bounds.minuteFrom.push(cells[at + field.minuteFrom]!)
    bounds.minuteTo.push(cells[at + field.closed]!)
    bounds.hourTo.push(cells[at + levelWidth + field.closed]!)
  }
  return bounds
}

/** Where the first row may be that is in no rollup row of this width; Infinity: all are in one. */
export function openFrom(ids: ArrayLike<number>, cells: Float64Array, level: Level): number {
  let open = Number.POSITIVE_INFINITY
  for (let i = 0; i < ids.length; i++) {
    const at = ids[i]! * stateWidth
    if (at >= cells.length) continue
    const without = level === 'minute' && cells[at + field.first]! < cells[at + field.minuteFrom]!
    open = Math.min(open, cells[at + (without ? field.first : field.open + (level === 'hour' ? levelWidth : 0))]!)
  }
  return open
}

/** Times of the first and last row of these series, late ones included. */
export function spanOf(ids: ArrayLike<number>, cells: Float64Array): { readonly first: number; readonly last: number } {
  let first = Number.POSITIVE_INFINITY
  let last = Number.NEGATIVE_INFINITY
  for (let i = 0; i < ids.length; i++) {
    const at = ids[i]! * stateWidth
    if (at >= cells.length) continue
    first = Math.min(first, cells[at + field.first]!, cells[at + field.lateFirst]!)
    last = Math.max(last, cells[at + field.last]!, cells[at + field.lateLast]!)
  }
  return { first, last }
}

export async function fillBounds(connection: DuckDBConnection, bounds: Bounds): Promise<void> {
  await connection.run(`CREATE OR REPLACE TEMP TABLE ${boundsTable} (series UINTEGER, minute_from TIMESTAMP, minute_to TIMESTAMP, hour_to TIMESTAMP)`)
  const time = (column: readonly number[]) => (row: number) => timeOf(column[row]!)
  await fill(connection, boundsTable, bounds.series.length, [
    [UINTEGER, (row) => bounds.series[row]!],
    [TIMESTAMP, time(bounds.minuteFrom)],
    [TIMESTAMP, time(bounds.minuteTo)],
    [TIMESTAMP, time(bounds.hourTo)],
  ])
}

export async function fillDevices(connection: DuckDBConnection, devices: SqlDevices): Promise<void> {
  await connection.run(`CREATE OR REPLACE TEMP TABLE ${devicesTable} (device VARCHAR, name VARCHAR, type VARCHAR, status VARCHAR, firmware VARCHAR,
    location VARCHAR, attributes VARCHAR, created TIMESTAMP, last_seen TIMESTAMP)`)
  const text = (column: readonly (string | null)[]): FilledColumn => [VARCHAR, (row) => column[row] ?? null]
  const time = (column: readonly (number | null)[]): FilledColumn => [
    TIMESTAMP,
    (row) => {
      const us = column[row]
      return us === null || us === undefined ? null : timeOf(us)
    },
  ]
  await fill(connection, devicesTable, devices.device.length, [
    ...[devices.device, devices.name, devices.type, devices.status, devices.firmware, devices.location, devices.attributes].map(text),
    time(devices.createdUs),
    time(devices.lastSeenUs),
  ])
}

type FilledColumn = readonly [type: DuckDBType, value: (row: number) => DuckDBValue]

async function fill(connection: DuckDBConnection, table: string, rows: number, columns: readonly FilledColumn[]): Promise<void> {
  const appender = await connection.createAppender(table, 'main', 'temp')
  try {
    for (let from = 0; from < rows; from += chunkRows) {
      const count = Math.min(chunkRows, rows - from)
      const chunk = DuckDBDataChunk.create(columns.map(([type]) => type))
      chunk.rowCount = count
      columns.forEach(([, value], c) =>
        chunk.setColumnValues(
          c,
          Array.from({ length: count }, (_, i) => value(from + i)),
        ),
      )
      appender.appendDataChunk(chunk)
    }
    appender.flushSync()
  } finally {
    appender.closeSync()
  }
}

function timeOf(us: number): DuckDBTimestampValue {
  if (us === Number.POSITIVE_INFINITY) return DuckDBTimestampValue.PosInf
  return us === Number.NEGATIVE_INFINITY ? DuckDBTimestampValue.NegInf : new DuckDBTimestampValue(BigInt(Math.trunc(us)))
}
