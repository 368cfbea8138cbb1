import type { DuckDBConnection } from '@duckdb/node-api'
import { limits } from '../../../core/limits.ts'
import type { SqlQuery, SqlView } from '../../../core/sql.ts'
import type { Dictionary } from '../dictionary.ts'
import type { Need } from '../sealed/sources.ts'
import type { Between, RollupSources, RowSources } from '../source-types.ts'
import type { Sources } from '../sources.ts'
import { stepOf, type Level } from '../sql.ts'
import type { Mention } from './conditions.ts'
import { timesOf } from './constants.ts'
import type { Checked } from './guard.ts'

/** What a statement asks of one view, or more: rows outside of it do not change its answer. */
export interface Reach extends Between {
  /** Absent: all. */
  readonly devices?: ReadonlySet<string>
  readonly metrics?: ReadonlySet<string>
}

export type Reaches = ReadonlyMap<SqlView, Reach>

/** Files and rows that a view is made of. */
export interface Extent {
  readonly view: SqlView
  /** Absent: of all series. Never empty. */
  readonly ids: Uint32Array | undefined
  /** Of rows; absent: of all times. */
  readonly rows: Between | undefined
  /** Of rollup rows. */
  readonly rollups: Between | undefined
}

const always: Between = { fromUs: Number.NEGATIVE_INFINITY, toUs: Number.POSITIVE_INFINITY }
const nothing: Between = { fromUs: 0, toUs: 0 }
/** No series has it; an empty list can be no condition. */
const nobody = 0xffff_ffff
/** Rows of more are found as quickly by the statement's own condition. */
const fewMax = 32
const messageMetrics = ['temperature', 'humidity', 'battery']

export const levelOf: Readonly<Partial<Record<SqlView, Level>>> = { readings_1m: 'minute', readings_1h: 'hour' }

/** Works out what a statement asks of each view. A view that is named several times has to show what any of them asks for. */
export async function reachesOf(connection: DuckDBConnection, checked: Checked, query: SqlQuery): Promise<Reaches> {
  const constants = checked.mentioned.flatMap(({ conditions }) => conditions.flatMap((one) => (one.column === 'time' ? [one.constant] : [])))
  const times = constants.length === 0 ? new Map<never, number>() : await timesOf(connection, checked.tree, constants, query.parameters)
  const reaches = new Map<SqlView, Reach>()
  for (const mention of checked.mentioned) {
    if (!checked.views.has(mention.view)) continue // A common table expression of that name.
    const reach = reachOf(mention, times)
    const known = reaches.get(mention.view)
    reaches.set(mention.view, known === undefined ? reach : either(known, reach))
  }
  // What has been checked in another way than it was looked through is shown in full.
  for (const view of checked.views) if (!reaches.has(view)) reaches.set(view, always)
  return reaches
}

function reachOf({ conditions }: Mention, times: ReadonlyMap<unknown, number>): Reach {
  let { fromUs, toUs } = always
  const texts: { device?: ReadonlySet<string>; metric?: ReadonlySet<string> } = {}
  for (const one of conditions) {
    if (one.column !== 'time') {
      const before = texts[one.column]
      texts[one.column] = new Set(before === undefined ? one.texts : one.texts.filter((text) => before.has(text)))
      continue
    }
    const us = times.get(one.constant)
    if (us === undefined) continue
    // A microsecond more on both sides: what is finer than one was cut off.
    if (one.side === 'from') fromUs = Math.max(fromUs, us - 1)
    else toUs = Math.min(toUs, us + 2)
  }
  return {
    fromUs,
    toUs,
    ...(texts.device === undefined ? {} : { devices: texts.device }),
    ...(texts.metric === undefined ? {} : { metrics: texts.metric }),
  }
}

function either(a: Reach, b: Reach): Reach {
  const both = (name: 'devices' | 'metrics'): Reach | object => {
    const [one, other] = [a[name], b[name]]
    return one === undefined || other === undefined ? {} : { [name]: new Set([...one, ...other]) }
  }
  return { fromUs: Math.min(a.fromUs, b.fromUs), toUs: Math.max(a.toUs, b.toUs), ...both('devices'), ...both('metrics') }
}

/** The series of a view that are asked for, as of now; undefined: too many to name, or all. */
export function idsOf(view: SqlView, reach: Reach, tenant: string, dictionary: Dictionary): Uint32Array | undefined {
  if (reach.devices === undefined || reach.devices.size > fewMax) return undefined
  const metrics = view === 'device_telemetry' ? messageMetrics : reach.metrics
  const ids = dictionary.match({ tenant, devices: [...reach.devices], ...(metrics === undefined ? {} : { metrics: [...metrics] }) })
  return ids.length > fewMax ? undefined : ids.length === 0 ? Uint32Array.of(nobody) : ids
}

/** `openFromUs`: of a view of rollups, where the rows begin that are in no rollup row. */
export function extentOf(view: SqlView, reach: Reach, ids: Uint32Array | undefined, openFromUs: number): Extent {
  const level = levelOf[view]
  if (level === undefined) return { view, ids, rows: finite(reach), rollups: undefined }
  // A bucket is made of all of its rows or of none.
  const step = stepOf[level]
  const whole = { fromUs: floor(reach.fromUs, step), toUs: floor(reach.toUs + step - 1, step) }
  return { view, ids, rows: finite({ fromUs: Math.max(whole.fromUs, openFromUs), toUs: whole.toUs }), rollups: finite(whole) }
}

function floor(us: number, step: number): number {
  return Number.isFinite(us) && us > 0 ? us - (us % step) : us
}

/** Numbers that may enter a statement. */
function finite({ fromUs, toUs }: Between): Between | undefined {
  if (fromUs >= toUs || toUs <= 0) return nothing
  if (fromUs <= 0 && toUs > limits.timeUsMax) return undefined
  return { fromUs: Math.max(0, fromUs), toUs: Math.min(toUs, limits.timeUsMax) }
}

/** The part of an extent that is not before `fromUs`. */
export function since(extent: Extent, fromUs: number): Extent {
  const { rows } = extent
  return { ...extent, rows: finite({ fromUs: Math.max(fromUs, rows?.fromUs ?? 0), toUs: rows?.toUs ?? Number.POSITIVE_INFINITY }) }
}

/** What the views read of sealed files. */
export function needsOf(extents: readonly Extent[]): Need[] {
  return extents.flatMap(({ view, rows, rollups }): Need[] => {
    if (view === 'devices') return []
    const level = levelOf[view]
    return [
      { kind: 'raw', ...(rows ?? always) },
      ...(level === undefined ? [] : [{ kind: level === 'minute' ? '1m' : '1h', ...(rollups ?? always) } as const]),
    ]
  })
}

/** The series that any of the views reads; undefined: all. */
export function idsOfAll(extents: readonly Extent[]): Uint32Array | undefined {
  const ids = new Set<number>()
  for (const extent of extents) {
    if (extent.view === 'devices') continue
    if (extent.ids === undefined) return undefined
    for (const id of extent.ids) ids.add(id)
  }
  return Uint32Array.from(ids)
}

export function rowsIn(sources: Sources, { ids, rows }: Extent): RowSources {
  return sources.rows(ids, rows)
}

export function rollupsIn(sources: Sources, { view, ids, rollups }: Extent): RollupSources | undefined {
  const level = levelOf[view]
  return level === undefined ? undefined : sources.rollups(level, ids, rollups)
}
