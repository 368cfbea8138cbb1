import type { TestContext } from 'node:test'
import { Flag } from '../../src/core/batch.ts'
import type { Batch, SeriesKey } from '../../src/core/batch.ts'
import type { Env } from '../../src/core/env.ts'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { KymoError } from '../../src/core/errors.ts'
import type { ForecastService } from '../../src/core/forecasts.ts'
import type { Code } from '../../src/core/errors.ts'
import type { IngestGate, MessageContext } from '../../src/core/gate.ts'
import { Metrics } from '../../src/core/metrics.ts'
import type { Aggregation, Position, QueryPage, RangeQuery, SeriesInfo, SeriesMatch, SeriesPage, Store } from '../../src/core/ports.ts'
import type {
  DeadLetter,
  DeadLetterService,
  DeviceService,
  LatestValues,
  LiveEvent,
  ErasureService,
  LiveFeed,
  Principal,
  Scope,
  SystemStatus,
  TokenInfo,
  TokenService,
  VersionedDevice,
} from '../../src/core/services.ts'
import type { SqlQuery, SqlRows, SqlStore } from '../../src/core/sql.ts'
import { openHttpDoor } from '../../src/doors/http/door.ts'
import type { HttpDoor, HttpDoorOptions } from '../../src/doors/http/options.ts'

const noJob = () => Promise.reject(new KymoError('not_found'))
const noSnapshots: HttpDoorOptions['snapshots'] = {
  create: () => Promise.reject(new KymoError('overloaded')),
  get: () => undefined,
  file: () => undefined,
  remove: () => Promise.resolve(false),
}

/** For tests of other routes. */
export const noMqtt: HttpDoorOptions['mqtt'] = {
  clients: () => ({ items: [] }),
  client: () => undefined,
  sessions: async () => ({ items: [] }),
  subscriptions: async () => ({ items: [] }),
  disconnect: async () => undefined,
}

/** For tests of other routes. */
export const noErasures: ErasureService = {
  request: async () => {
    throw new KymoError('device_not_found')
  },
  list: async () => ({ items: [] }),
  get: async () => undefined,
}

const noSeries = () => Promise.reject(new KymoError('series_not_found'))

/** For tests of other routes. */
export const noForecasts: ForecastService = {
  forecast: noSeries,
  crossing: noSeries,
  predictions: noSeries,
  latest: async () => ({ items: [] }),
  models: async () => ({ items: [] }),
  versions: noSeries,
  promote: noSeries,
  accuracy: noSeries,
  file: noSeries,
  train: noSeries,
  backtest: noSeries,
  latestTraining: () => undefined,
}

const noJobs: HttpDoorOptions['jobs'] = {
  createImport: noJob,
  createExport: noJob,
  list: () => ({ items: [] }),
  get: () => undefined,
  cancel: () => Promise.resolve(undefined),
  file: () => undefined,
}

/** A gate that decodes with JSON.parse. Items are refused for what the test needs: no device, a text for `temperature`. */
export class TestGate implements IngestGate {
  refusal: KymoError | undefined
  durable = 0
  stalled: KymoError | undefined
  overloaded = false
  /** Taken messages. */
  readonly taken: { readonly context: MessageContext; readonly document: unknown }[] = []
  /** Each message is said to be of this time. */
  takenUs = 1_700_000_000_123_456
  readonly letters: { readonly context: MessageContext; readonly code: string; readonly bytes: Buffer; readonly totalBytes: number }[] = []
  submits = 0
  /** Takes this many messages, then is overloaded. */
  room = Infinity
  /** What `whenDurable` waits for. */
  durability: () => Promise<void> = () => Promise.resolve()
  readonly #listeners = new Set<(durable: number) => void>()
  #ticket = 0

  submit(context: MessageContext, bytes: Uint8Array, start: number, end: number): number {
    this.refusal = undefined
    this.submits++
    if (this.overloaded || this.taken.length >= this.room) {
      this.overloaded = true
      return 0
    }
    const refused = this.#decode(context, Buffer.from(bytes.subarray(start, end)))
    if (refused === undefined) return ++this.#ticket
    const ticket = this.deadLetter(context, refused, bytes.subarray(start, end), end - start)
    this.refusal = refused
    return ticket
  }

  #decode(context: MessageContext, bytes: Buffer): KymoError | undefined {
    let document: unknown
    try {
      document = JSON.parse(bytes.toString())
    } catch {
      return new KymoError('body_not_json')
    }
    const o = document as Record<string, unknown>
    if (typeof (o['device'] ?? o['device_id'] ?? o['sensor_id']) !== 'string')
      return new KymoError('device_missing', { errors: [{ pointer: '/device', detail: 'is missing' }] })
    for (const name of ['temperature', 'temperature_c', 'value']) {
      if (typeof o[name] === 'string') return new KymoError('value_invalid', { errors: [{ pointer: `/${name}`, detail: 'must be a number' }] })
    }
    this.taken.push({ context: { ...context }, document })
    return undefined
  }

  deadLetter(context: MessageContext, error: KymoError, bytes: Uint8Array, totalBytes: number): number {
    this.refusal = undefined
    if (this.overloaded) return 0
    this.letters.push({ context: { ...context }, code: error.code, bytes: Buffer.from(bytes), totalBytes })
    return ++this.#ticket
  }

  onDurable(listener: (durable: number) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  giveRoom(room = Infinity): void {
    this.room = room
    this.overloaded = false
    for (const listener of this.#listeners) listener(this.durable)
  }

  async whenDurable(ticket: number): Promise<void> {
    await this.durability()
    this.durable = Math.max(this.durable, ticket)
  }
}

export interface TestReading {
  readonly device: string
  readonly metric: string
  readonly timeUs: number
  readonly value: number | string | boolean
  readonly flags?: number
  readonly meta?: string
}

function compare(a: Position, b: Position): number {
  if (a.timeUs !== b.timeUs) return a.timeUs - b.timeUs
  if (a.device !== b.device) return a.device < b.device ? -1 : 1
  return a.metric === b.metric ? 0 : a.metric < b.metric ? -1 : 1
}

function matches(match: SeriesMatch, r: { readonly device: string; readonly metric: string }): boolean {
  return (match.devices?.includes(r.device) ?? true) && (match.metrics?.includes(r.metric) ?? true)
}

function toBatch(readings: readonly TestReading[]): Batch {
  const keys: SeriesKey[] = []
  const ids = new Map<string, number>()
  const series = new Uint32Array(readings.length)
  const text = new Map<number, string>()
  const meta = new Map<number, string>()
  const flags = new Uint8Array(readings.length)
  readings.forEach((r, i) => {
    const name = `${r.device}\u0000${r.metric}`
    let id = ids.get(name)
    if (id === undefined) {
      ids.set(name, (id = keys.length))
      keys.push({ tenant: 'default', device: r.device, metric: r.metric })
    }
    series[i] = id
    flags[i] = (r.flags ?? 0) | (typeof r.value === 'string' ? Flag.text : typeof r.value === 'boolean' ? Flag.boolean : 0)
    if (typeof r.value === 'string') text.set(i, r.value)
    if (r.meta !== undefined) meta.set(i, r.meta)
  })
  return {
    rows: readings.length,
    keys,
    series,
    timeUs: Float64Array.from(readings, (r) => r.timeUs),
    value: Float64Array.from(readings, (r) => (typeof r.value === 'string' ? Number.NaN : Number(r.value))),
    flags,
    text,
    meta,
  }
}

/** A store over an array, with pages of a few rows. */
export class TestStore implements Pick<Store, 'query' | 'latest' | 'series'>, SqlStore {
  readings: TestReading[] = []
  pageRows = 7
  asked: RangeQuery[] = []
  aborted = 0
  /** Awaited before each page. */
  slow: (signal: AbortSignal) => Promise<void> = () => Promise.resolve()

  /** What SQL answers; each query that was asked. */
  sqlAnswer: SqlRows = { columns: [], rows: 0, values: [] }
  sqlAsked: SqlQuery[] = []

  sql(query: SqlQuery): Promise<SqlRows | 'needs devices'> {
    this.sqlAsked.push(query)
    return Promise.resolve(query.sql.includes('devices') && query.devices === undefined ? 'needs devices' : this.sqlAnswer)
  }

  async *query(q: RangeQuery, signal: AbortSignal): AsyncIterable<QueryPage> {
    this.asked.push(q)
    signal.addEventListener('abort', () => this.aborted++)
    let rows: (TestReading & { readonly n?: number })[] = this.readings.filter(
      (r) => matches(q.match, r) && r.timeUs >= q.fromUs && r.timeUs < q.toUs,
    )
    const step = q.stepUs
    const buckets = new Map<string, number[]>()
    if (step !== undefined) {
      const firsts = new Map<string, TestReading>()
      for (const r of rows) {
        const timeUs = Math.floor(r.timeUs / step) * step
        const id = `${timeUs} ${r.device} ${r.metric}`
        if (!firsts.has(id)) firsts.set(id, { ...r, timeUs })
        buckets.set(id, [...(buckets.get(id) ?? []), Number(r.value)])
      }
      rows = [...firsts.values()]
    }
    const sign = q.order === 'asc' ? 1 : -1
    const after = q.after
    rows = rows
      .sort((a, b) => sign * compare(a, b))
      .filter((r) => after === undefined || sign * compare(r, after) > 0)
      .slice(0, q.limit)
    for (let i = 0; i < rows.length; i += this.pageRows) {
      await this.slow(signal)
      const part = rows.slice(i, i + this.pageRows)
      const batch = toBatch(part)
      const columns: Record<string, Float64Array> = {}
      if (step === undefined) columns['value'] = batch.value
      for (const name of q.aggregations ?? []) {
        columns[name] = Float64Array.from(part, (r) => {
          const values = buckets.get(`${r.timeUs} ${r.device} ${r.metric}`) ?? []
          const sum = values.reduce((a, b) => a + b, 0)
          const columns: Partial<Record<Aggregation, number>> = {
            avg: sum / values.length,
            sum,
            count: values.length,
            min: Math.min(...values),
            max: Math.max(...values),
            stddev: Number.NaN,
            first: values[0]!,
            last: values.at(-1)!,
          }
          return columns[name] ?? Number.NaN
        })
      }
      yield step === undefined ? { ...batch, columns } : { rows: batch.rows, keys: batch.keys, series: batch.series, timeUs: batch.timeUs, columns }
    }
  }

  latestOf(match: SeriesMatch): Batch {
    const last = new Map<string, TestReading>()
    for (const r of this.readings) {
      const id = `${r.device}\u0000${r.metric}`
      if (matches(match, r) && (last.get(id)?.timeUs ?? -1) <= r.timeUs) last.set(id, r)
    }
    return toBatch([...last.values()])
  }

  async latest(match: SeriesMatch): Promise<Batch> {
    return this.latestOf(match)
  }

  async series(match: SeriesMatch, _signal: AbortSignal, page?: SeriesPage): Promise<readonly SeriesInfo[]> {
    const found = new Map<string, SeriesInfo>()
    for (const r of this.readings) {
      if (!matches(match, r)) continue
      const id = `${r.device}\u0000${r.metric}`
      const known = found.get(id)
      found.set(id, {
        key: { tenant: 'default', device: r.device, metric: r.metric },
        firstUs: Math.min(known?.firstUs ?? Infinity, r.timeUs),
        lastUs: Math.max(known?.lastUs ?? 0, r.timeUs),
      })
    }
    const name = (key: { readonly device: string; readonly metric: string }): string => `${key.device}\u0000${key.metric}`
    const after = page?.after
    return [...found.values()]
      .sort((a, b) => (name(a.key) < name(b.key) ? -1 : 1))
      .filter((info) => after === undefined || name(info.key) > name(after))
      .slice(0, page?.limit)
  }
}

export class TestDevices implements DeviceService {
  readonly byId = new Map<string, VersionedDevice>()
  failing: KymoError | undefined

  async create(_tenant: string, o: Parameters<DeviceService['create']>[1]): Promise<VersionedDevice> {
    if (this.failing !== undefined) throw this.failing
    if (this.byId.has(o.id)) throw new KymoError('already_exists')
    const device: VersionedDevice = {
      id: o.id,
      name: o.name ?? '',
      type: o.type ?? '',
      status: 'active',
      tenant_id: o.tenant_id ?? '',
      metadata: o.metadata ?? {},
      attributes: {},
      created_us: 1_700_000_000_000_000,
      updated_us: 1_700_000_000_000_000,
      auto_registered: false,
      version: 1,
    }
    this.byId.set(o.id, device)
    return device
  }
  async get(_tenant: string, id: string): Promise<VersionedDevice | undefined> {
    if (this.failing !== undefined) throw this.failing
    return this.byId.get(id)
  }
  /** A search looks at three devices at a time, as the registry does at many. */
  async list(
    _tenant: string,
    o: { readonly after?: string; readonly limit: number; readonly search?: string },
  ): Promise<{ items: VersionedDevice[]; next?: string }> {
    const rest = [...this.byId.values()].sort((a, b) => (a.id < b.id ? -1 : 1)).filter((d) => o.after === undefined || d.id > o.after)
    if (o.search !== undefined) {
      const looked = rest.slice(0, Math.min(3, o.limit))
      const found = looked.filter(({ id, name }) => `${id} ${name}`.toLowerCase().includes(o.search?.toLowerCase() ?? ''))
      return rest.length > looked.length ? { items: found, next: looked.at(-1)!.id } : { items: found }
    }
    const items = rest.slice(0, o.limit)
    return rest.length > o.limit ? { items, next: items.at(-1)!.id } : { items }
  }
  count(): number {
    return this.byId.size
  }
  async update(_tenant: string, id: string, patch: Parameters<DeviceService['update']>[2], expect?: number): Promise<VersionedDevice> {
    const device = this.byId.get(id)
    if (device === undefined) throw new KymoError('device_not_found')
    if (expect !== undefined && expect !== device.version) throw new KymoError('version_conflict')
    const changed = { ...device, ...patch, version: device.version + 1, updated_us: device.updated_us + 1e6 }
    this.byId.set(id, changed)
    return changed
  }
  seen(_tenant: string, id: string, receivedUs: number): void {
    const device = this.byId.get(id)
    if (device !== undefined) this.byId.set(id, { ...device, last_seen_us: receivedUs })
  }
}

export class TestTokens implements TokenService {
  readonly infos: TokenInfo[] = []
  readonly #principals = new Map<string, Principal>()
  get any(): boolean {
    return this.#principals.size > 0
  }
  async create(o: { readonly name: string; readonly scopes: readonly Scope[] }): Promise<{ token: string; info: TokenInfo }> {
    const info = { id: `t${this.infos.length + 1}`, name: o.name, scopes: o.scopes, created_us: 1_700_000_000_000_000 }
    this.infos.push(info)
    const token = `tk_${info.id}secret`
    this.#principals.set(token, { tenant: 'default', id: info.id, scopes: new Set(o.scopes) })
    return { token, info }
  }
  async list(): Promise<readonly TokenInfo[]> {
    return this.infos
  }
  async revoke(id: string): Promise<boolean> {
    return this.#principals.delete(`tk_${id}secret`)
  }
  verify(token: string): Principal | undefined {
    return this.#principals.get(token)
  }
}

export class TestLive implements LiveFeed {
  readonly listeners = new Set<(event: LiveEvent) => void>()
  subscribe(listener: (event: LiveEvent) => void): () => void {
    this.listeners.add(listener)
    return () => void this.listeners.delete(listener)
  }
  publish(id: bigint, readings: readonly TestReading[]): void {
    for (const listener of this.listeners) listener({ id, batch: toBatch(readings), receivedUs: 0 })
  }
}

export class TestLetters implements DeadLetterService {
  letters: DeadLetter[] = []
  replayed: (readonly string[] | 'all')[] = []
  async list(_tenant: string, o: Parameters<DeadLetterService['list']>[1]): Promise<{ items: DeadLetter[]; next?: string }> {
    const rest = this.letters.filter(
      (l) =>
        (o.after === undefined || Number(l.id) < Number(o.after)) &&
        (o.code === undefined || l.code === o.code) &&
        (o.status === undefined || l.status === o.status),
    )
    const items = rest.slice(0, o.limit)
    return rest.length > o.limit ? { items, next: items.at(-1)!.id } : { items }
  }
  async get(_tenant: string, id: string): Promise<DeadLetter | undefined> {
    return this.letters.find((l) => l.id === id)
  }
  async replay(
    _tenant: string,
    ids: readonly string[] | 'all',
  ): Promise<{ replayed: number; failed: number; results: { id: string; ok: boolean }[] }> {
    this.replayed.push(ids)
    const results = (ids === 'all' ? this.letters.map((l) => l.id) : ids).map((id) => ({ id, ok: true }))
    return { replayed: results.length, failed: 0, results }
  }
  /** What the next dismissal fails with. */
  dismissFails: Code | undefined
  async dismiss(_tenant: string, ids: readonly string[] | 'all'): ReturnType<DeadLetterService['dismiss']> {
    const code = this.dismissFails
    const chosen = this.letters.filter((l) => (ids === 'all' ? l.status === 'waiting' : ids.includes(l.id)))
    if (code === undefined) this.letters = this.letters.map((l) => (chosen.includes(l) ? { ...l, status: 'dismissed' } : l))
    const results = chosen.map(({ id }) => (code === undefined ? { id, ok: true } : { id, ok: false, code, detail: 'The log takes nothing.' }))
    return { dismissed: code === undefined ? chosen.length : 0, failed: code === undefined ? 0 : chosen.length, results }
  }
}

export interface Served {
  readonly door: HttpDoor
  readonly url: string
  readonly gate: TestGate
  readonly store: TestStore
  readonly devices: TestDevices
  readonly tokens: TestTokens
  readonly live: TestLive
  readonly letters: TestLetters
  readonly metrics: Metrics
  readonly env: Env
  call(path: string, o?: RequestInit): Promise<Reply>
  post(path: string, body: unknown, headers?: Readonly<Record<string, string>>): Promise<Reply>
}

export interface Reply {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  /** The body as JSON; undefined when it is none. */
  readonly json: Record<string, unknown>
}

export const okStatus: SystemStatus = {
  version: '1.2.3',
  started_us: 1_700_000_000_000_000,
  ready: true,
  draining: false,
  components: [{ name: 'store', ok: true }],
  lag: [
    {
      group: 'store',
      partition: 0,
      earliest: 0n,
      committed: 9_007_199_254_740_993n,
      end: 9_007_199_254_740_995n,
      bytes: 20,
      oldestUs: 1_700_000_000_000_000,
    },
  ],
  messages_total: 1,
  readings_total: 2,
  rejected_total: 0,
  devices: 1,
  devices_active: 1,
  dead_letters_waiting: 0,
  series: 2,
  mqtt_connections: 0,
  data_dir: '/data',
  storage: { log_bytes: 0, store_bytes: 0 },
  retention: { removed_bytes: { age: 0, size: 0, rules: 0 }, due_files: 0, rules: [] },
  pid: 1,
}

async function read(response: Response): Promise<Reply> {
  const text = await response.text()
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    json = undefined
  }
  return { status: response.status, headers: response.headers, text, json: json as Reply['json'] }
}

/** A listening door over simple services; closed when the test ends. */
export async function serve(t: TestContext, o: Partial<HttpDoorOptions> = {}): Promise<Served> {
  const store = new TestStore()
  const parts = {
    gate: new TestGate(),
    store,
    devices: new TestDevices(),
    tokens: new TestTokens(),
    live: new TestLive(),
    metrics: new Metrics(),
    env: nodeEnv(silentLogger),
  }
  const letters = new TestLetters()
  const latest: LatestValues = { latest: (match) => store.latestOf(match), metrics: () => [] }
  const door = await openHttpDoor({
    host: '127.0.0.1',
    port: 0,
    ...parts,
    deadLetters: letters,
    jobs: noJobs,
    forecasts: noForecasts,
    erasures: noErasures,
    mqtt: noMqtt,
    snapshots: noSnapshots,
    latest,
    status: async () => okStatus,
    auth: 'loopback',
    version: '1.2.3',
    ...o,
  })
  door.setReady(true)
  t.after(() => door.close(100))
  const call = async (path: string, init?: RequestInit): Promise<Reply> => read(await fetch(door.url + path, init))
  return {
    door,
    url: door.url,
    ...parts,
    letters,
    call,
    post: (path, body, headers = {}) =>
      call(path, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: typeof body === 'string' || body instanceof Uint8Array ? (body as string) : JSON.stringify(body),
      }),
  }
}
