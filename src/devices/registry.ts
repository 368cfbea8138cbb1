import type { Env, LogFields, Timer } from '../core/env.ts'
import { asKymoError, KymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import type { Metrics } from '../core/metrics.ts'
import type { MetaStore } from '../core/ports.ts'
import type { Admission, SeriesTable } from '../core/series-table.ts'
import type { Device, DeviceService, Page, VersionedDevice } from '../core/services.ts'
import { createAdmission } from './admission.ts'
import { DeviceDirectory } from './directory.ts'
import { deviceDocument, deviceView, newDevice, nothing, takeDocument } from './document.ts'
import type { DeviceState } from './document.ts'
import { LastSeen } from './last-seen.ts'

/** How often what was heard is written: what kill -9 may take from `last_seen_us`, until the device sends again. */
const seenFlushMs = 5_000
/** A device counts as active for this long after its last message. */
const activeUs = 5 * 60 * 1e6
/** Documents of one call, when loading and when storing: parsed or written in 2 to 3 ms. */
const pageDevices = 1_000

/** What the log says of a device: that it exists, and what it now says of itself. */
export interface Discovery {
  readonly tenant: string
  readonly device: string
  readonly receivedUs: number
  readonly changes?: Readonly<Record<string, string>>
}

/**
 * All devices, in memory and in the meta store. Devices come to be in two ways: `create` by API, and `learn` by the log, whose
 * consumer group `registry` is acknowledged after `stored()`: what a crash took from memory is read from the log again.
 */
export interface DeviceRegistry extends DeviceService {
  /** For `SeriesTable.admission`, before doors open. */
  readonly admission: Admission
  /** Every tenant that has a device, and `default`. */
  tenants(): readonly string[]
  /** Makes it known in memory at once; returns its dense number, or -1 when the limit of devices is reached. */
  learn(discovery: Discovery): number
  /**
   * As `learn`, of what another process may be the one to store: memory only. With `shared`; the process whose consumer group gets the same record
   * calls `learn`.
   */
  hear(discovery: Discovery): number
  /** As `forget`, of what another process stores. */
  unhear(tenant: string, device: string): void
  /** Resolves when everything learned is durable. Rejects with what the meta store says; calling again tries again. */
  stored(): Promise<void>
  /** The device's dense number, -1 when it is not known. */
  indexOf(tenant: string, device: string): number
  /** Tenant and id of the devices whose metadata has all of these members, with these values as text. */
  labelled(labels: Readonly<Record<string, string>>): (readonly [tenant: string, device: string])[]
  /** The device was erased: it is not known any more. Durable with `stored`. */
  forget(tenant: string, device: string): void
  /** The device with this number was heard, in received time. Memory only; written every few seconds and on close. */
  seenAt(index: number, receivedUs: number): void
  /** Devices of all tenants that sent something in the last five minutes. */
  readonly active: number
  close(): Promise<void>
}

export interface DeviceRegistryOptions {
  readonly meta: MetaStore
  /** Gets every device that is known, so that doors know it with what it last said of itself. */
  readonly series: SeriesTable
  readonly env: Env
  readonly metrics: Metrics
  readonly autoRegister: boolean
  readonly registrationsPerS: number
  readonly registrationBurst: number
  /** Other processes have the same devices: documents are read again when somebody asks for them. */
  readonly shared?: boolean
  /** When devices were last heard is written by other processes. */
  readonly seenElsewhere?: boolean
}

/** Loads every device. Rejects when the meta store does not answer. */
export async function openDeviceRegistry(o: DeviceRegistryOptions): Promise<DeviceRegistry> {
  const registry = new Registry(o)
  await registry.load()
  return registry
}

class Registry implements DeviceRegistry {
  readonly admission: Admission
  readonly #o: DeviceRegistryOptions
  readonly #devices = new DeviceDirectory()
  readonly #lastSeen = new LastSeen()
  /** Devices that memory knows more of than their documents say. */
  readonly #dirty = new Set<DeviceState>()
  /** Devices whose documents are to go. */
  readonly #forgotten: Pick<DeviceState, 'tenant' | 'id'>[] = []
  readonly #storedTenants = new Set<string>()
  #storing: Promise<void> | undefined
  #flushing: Promise<void> = Promise.resolve()
  #timer: Timer | undefined
  #closed = false
  readonly #told = new Set<string>()

  constructor(o: DeviceRegistryOptions) {
    this.#o = o
    this.admission = createAdmission({
      clock: o.env.clock,
      // Asked each time: both may change while it runs.
      get autoRegister() {
        return o.autoRegister
      },
      get perS() {
        return o.registrationsPerS
      },
      burst: o.registrationBurst,
      full: () => this.#devices.all.length >= limits.devicesMax,
      known: (tenant, device) => this.#devices.find(tenant, device) !== undefined,
    })
    const help = 'Registered devices: active sent something in the last five minutes.'
    const active = o.metrics.gauge('kymo_devices', help, { state: 'active' })
    const silent = o.metrics.gauge('kymo_devices', help, { state: 'silent' }, () => {
      const devices = this.#devices.all.length - this.#devices.removed
      active.value = this.active
      silent.value = devices - active.value
    })
  }

  get active(): number {
    return this.#lastSeen.countSince(this.#devices.all.length, this.#o.env.clock.nowUs() - activeUs)
  }

  async load(): Promise<void> {
    const { meta } = this.#o
    for await (const row of documents(meta, 'tenants', '')) this.#storedTenants.add(row.doc.id)
    for (const tenant of this.tenants()) {
      for await (const row of documents(meta, 'devices', tenant)) takeDocument(this.#add(tenant, row.doc.id, 0), row)
    }
    await this.#lastSeen.load(meta, (tenant, device) => this.#devices.find(tenant, device))
    for (const state of this.#devices.all) this.#tellDoors(state)
    this.#armFlush()
  }

  tenants(): readonly string[] {
    return [...new Set(['default', ...this.#storedTenants, ...this.#devices.tenants()])]
  }

  async create(tenant: string, given: Parameters<DeviceService['create']>[1]): Promise<VersionedDevice> {
    if (this.#devices.find(tenant, given.id) !== undefined)
      throw new KymoError('already_exists', { detail: `The device ${given.id} exists already.` })
    if (this.#devices.all.length >= limits.devicesMax) throw new KymoError('too_many_devices')
    const made = newDevice(-1, tenant, given.id, this.#o.env.clock.nowUs())
    made.auto = false
    made.name = given.name ?? given.id
    made.type = given.type ?? ''
    made.tenantId = given.tenant_id ?? tenant
    made.metadata = given.metadata ?? nothing
    const row = await this.#putNew(made)
    // Its first reading may have come through the log meanwhile: then memory has it, and takes over what was created.
    const state = this.#devices.find(tenant, given.id) ?? this.#add(tenant, given.id, made.createdUs)
    const { attributes } = state
    takeDocument(state, row)
    if (attributes !== nothing) state.attributes = attributes
    this.#o.series.register(tenant, given.id)
    return this.#view(state)
  }

  async get(tenant: string, id: string): Promise<VersionedDevice | undefined> {
    const state = this.#o.shared === true ? await this.#known(tenant, id) : this.#devices.find(tenant, id)
    return state === undefined ? undefined : this.#view(state)
  }

  async list(tenant: string, o: { readonly after?: string; readonly limit: number; readonly search?: string }): Promise<Page<VersionedDevice>> {
    if (o.search !== undefined) {
      const found = this.#devices.search(tenant, o.search, { after: o.after, limit: o.limit, lookMax: limits.deviceSearchStep })
      return { items: found.items.map((state) => this.#view(state)), ...(found.last === undefined ? {} : { next: found.last }) }
    }
    if (this.#o.shared === true) await this.#rereadPage(tenant, o)
    const { items, more } = this.#devices.page(tenant, o.after, o.limit)
    const last = items.at(-1)
    return { items: items.map((state) => this.#view(state)), ...(more && last !== undefined ? { next: last.id } : {}) }
  }

  count(tenant: string): number {
    return this.#devices.count(tenant)
  }

  async update(
    tenant: string,
    id: string,
    patch: Partial<Pick<Device, 'name' | 'type' | 'status' | 'metadata'>>,
    expectVersion?: number,
  ): Promise<VersionedDevice> {
    const state = this.#o.shared === true ? await this.#known(tenant, id) : this.#devices.find(tenant, id)
    if (state === undefined) throw new KymoError('device_not_found')
    for (;;) {
      if (expectVersion !== undefined && expectVersion !== state.version)
        throw new KymoError('version_conflict', { facts: { version: state.version } })
      const changed: DeviceState = { ...state, ...patch, updatedUs: this.#o.env.clock.nowUs() }
      try {
        const [row] = await this.#o.meta.write([
          { op: 'put', collection: 'devices', tenant, doc: deviceDocument(changed), expect: state.version },
          ...this.#tenantWrites([tenant]),
        ])
        if (row !== undefined) this.#takeWritten(state, changed, row.version)
        return this.#view(state)
      } catch (thrown) {
        if (!isConflict(thrown)) throw thrown
        if (this.#devices.find(tenant, id) !== state) throw new KymoError('device_not_found')
        // Somebody else wrote it (the registry itself, when the device has just said something): start from what is there now.
        await this.#reread(state)
      }
    }
  }

  learn(discovery: Discovery): number {
    return this.#take(discovery, true)
  }

  hear(discovery: Discovery): number {
    return this.#take(discovery, false)
  }

  /** `ours`: it is for this process to store. */
  #take({ tenant, device, receivedUs, changes }: Discovery, ours: boolean): number {
    let state = this.#devices.find(tenant, device)
    if (state === undefined) {
      if (this.#devices.all.length >= limits.devicesMax) {
        this.#tellOnce('the limit of devices is reached', { devices: limits.devicesMax })
        return -1
      }
      state = this.#add(tenant, device, receivedUs)
      this.#o.series.register(tenant, device)
    }
    // Heard before, or not at all: there is no document yet.
    if (ours && state.version === 0) this.#dirty.add(state)
    if (changes !== undefined) this.#takeChanges(state, changes, receivedUs, ours)
    return state.index
  }

  labelled(labels: Readonly<Record<string, string>>): (readonly [tenant: string, device: string])[] {
    const wanted = Object.entries(labels)
    const has = ({ metadata }: DeviceState): boolean =>
      wanted.every(([name, value]) => Object.hasOwn(metadata, name) && isLabel(metadata[name], value))
    return this.#devices.all
      .filter((state) => state.metadata !== nothing && has(state) && this.#devices.find(state.tenant, state.id) === state)
      .map(({ tenant, id }) => [tenant, id] as const)
  }

  forget(tenant: string, device: string): void {
    if (this.#remove(tenant, device) || this.#o.shared === true) this.#forgotten.push({ tenant, id: device })
  }

  unhear(tenant: string, device: string): void {
    this.#remove(tenant, device)
  }

  stored(): Promise<void> {
    if (this.#dirty.size === 0 && this.#forgotten.length === 0) return Promise.resolve()
    this.#storing ??= this.#store().finally(() => {
      this.#storing = undefined
    })
    return this.#storing
  }

  indexOf(tenant: string, device: string): number {
    return this.#devices.find(tenant, device)?.index ?? -1
  }

  seenAt(index: number, receivedUs: number): void {
    this.#lastSeen.set(index, receivedUs)
  }

  seen(tenant: string, device: string, receivedUs: number): void {
    const index = this.indexOf(tenant, device)
    if (index >= 0) this.#lastSeen.set(index, receivedUs)
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#timer?.cancel()
    await this.#flushing
    await this.stored()
    if (this.#o.seenElsewhere !== true) await this.#lastSeen.flush(this.#o.meta, this.#devices.all)
  }

  #view(state: DeviceState): VersionedDevice {
    return deviceView(state, this.#lastSeen.at(state.index))
  }

  #add(tenant: string, id: string, atUs: number): DeviceState {
    const state = this.#devices.add((index) => newDevice(index, tenant, id, atUs))
    this.#lastSeen.add(state)
    return state
  }

  #tellDoors(state: DeviceState): void {
    const entry = this.#o.series.register(state.tenant, state.id)
    for (const [name, value] of Object.entries(state.attributes)) this.#o.series.setAttribute(entry, name, value)
  }

  /** Whether it was known. */
  #remove(tenant: string, device: string): boolean {
    const state = this.#devices.remove(tenant, device)
    if (state === undefined) return false
    this.#dirty.delete(state)
    this.#lastSeen.remove(state.index)
    return true
  }

  #takeChanges(state: DeviceState, changes: Readonly<Record<string, string>>, receivedUs: number, ours: boolean): void {
    const unstored = Object.entries(changes).some(([name, value]) => state.attributes[name] === value && state.storedAttributes[name] !== value)
    if (ours && unstored) this.#dirty.add(state)
    const changed = Object.entries(changes).filter(([name, value]) => state.attributes[name] !== value)
    const kept = changed.filter(([, value]) => Buffer.byteLength(value) <= limits.attributeBytesMax)
    const attributes = Object.fromEntries([...Object.entries(state.attributes), ...kept])
    const over = Object.keys(attributes).length > limits.attributesPerDeviceMax
    if (over || kept.length < changed.length) this.#tellOnce('a device has attributes beyond the limit; they are not kept', { device: state.id })
    if (over || kept.length === 0) return
    state.attributes = attributes
    state.updatedUs = receivedUs
    state.changes++
    if (ours) this.#dirty.add(state)
  }

  /** What may happen with every message is logged once. */
  #tellOnce(message: string, fields: LogFields): void {
    if (this.#told.has(message)) return
    this.#told.add(message)
    this.#o.env.logger.warn(message, fields)
  }

  async #putNew(made: DeviceState): Promise<{ readonly doc: ReturnType<typeof deviceDocument>; readonly version: number }> {
    const writes = [
      { op: 'put', collection: 'devices', tenant: made.tenant, doc: deviceDocument(made), expect: 0 } as const,
      ...this.#tenantWrites([made.tenant]),
    ]
    const [row] = await this.#o.meta.write(writes)
    if (row === undefined) throw new KymoError('bug', { detail: 'A device was written and the meta store gave nothing back.' })
    this.#storedTenants.add(made.tenant)
    return row
  }

  #tenantWrites(tenants: readonly string[]): readonly { op: 'put'; collection: 'tenants'; tenant: ''; doc: { id: string } }[] {
    const missing = [...new Set(tenants)].filter((tenant) => !this.#storedTenants.has(tenant))
    return missing.map((id) => ({ op: 'put', collection: 'tenants', tenant: '', doc: { id } }))
  }

  async #store(): Promise<void> {
    while (this.#dirty.size > 0 || this.#forgotten.length > 0) {
      await this.#removeForgotten()
      const some = [...this.#dirty.values().take(pageDevices)].map((state) => ({ state, sent: { ...state } }))
      const puts = some.map(
        ({ state, sent }) => ({ op: 'put', collection: 'devices', tenant: state.tenant, doc: deviceDocument(sent), expect: sent.version }) as const,
      )
      try {
        const rows = await this.#o.meta.write([...puts, ...this.#tenantWrites(some.map(({ state }) => state.tenant))])
        some.forEach(({ state, sent }, i) => this.#takeWritten(state, sent, rows[i]?.version ?? 0))
      } catch (thrown) {
        if (!isConflict(thrown)) throw thrown
        for (const { state } of some) await this.#reread(state)
      }
    }
  }

  /** Before anything is written: a device of the same name may have come since. */
  async #removeForgotten(): Promise<void> {
    const some = this.#forgotten.slice()
    if (some.length === 0) return
    await this.#o.meta.write(some.map(({ tenant, id }) => ({ op: 'delete', collection: 'devices', tenant, id }) as const))
    await this.#lastSeen.flush(this.#o.meta, this.#devices.all)
    this.#forgotten.splice(0, some.length)
  }

  /** The document is durable as `sent`; what the log has said since stays to be written. */
  #takeWritten(state: DeviceState, sent: DeviceState, version: number): void {
    if (version <= state.version) return
    state.version = version
    state.name = sent.name
    state.type = sent.type
    state.status = sent.status
    state.metadata = sent.metadata
    state.storedAttributes = sent.attributes
    if (state.changes === sent.changes) {
      state.updatedUs = sent.updatedUs
      this.#dirty.delete(state)
    }
    this.#storedTenants.add(state.tenant)
  }

  /** Another writer was first: its document counts, except for what the log says, which memory has and will write again. */
  async #reread(state: DeviceState): Promise<void> {
    const row = await this.#o.meta.get('devices', state.tenant, state.id)
    if (row === undefined) {
      state.version = 0
      return
    }
    this.#takeRow(state, row)
  }

  #takeRow(state: DeviceState, row: Parameters<typeof takeDocument>[1]): void {
    if (row.version === state.version) return
    const { attributes } = state
    const ahead = this.#dirty.has(state) || this.#o.shared === true
    takeDocument(state, row)
    if (ahead) state.attributes = Object.fromEntries([...Object.entries(state.attributes), ...Object.entries(attributes)])
    if (this.#o.shared === true) this.#tellDoors(state)
  }

  /** The device as its document says now, whoever wrote it. */
  async #known(tenant: string, id: string): Promise<DeviceState | undefined> {
    const row = await this.#o.meta.get('devices', tenant, id)
    const state = this.#devices.find(tenant, id)
    if (row === undefined) return state
    const taken = state ?? this.#add(tenant, id, 0)
    this.#takeRow(taken, row)
    return taken
  }

  async #rereadPage(tenant: string, o: { readonly after?: string; readonly limit: number }): Promise<void> {
    const rows = await this.#o.meta.list('devices', tenant, { limit: o.limit, ...(o.after === undefined ? {} : { after: o.after }) })
    for (const row of rows) this.#takeRow(this.#devices.find(tenant, row.doc.id) ?? this.#add(tenant, row.doc.id, 0), row)
  }

  #armFlush(): void {
    if (this.#o.seenElsewhere === true) return
    this.#timer = this.#o.env.clock.after(seenFlushMs, () => {
      this.#flushing = this.#flushSeen().then(() => {
        if (!this.#closed) this.#armFlush()
      })
    })
  }

  async #flushSeen(): Promise<void> {
    try {
      await this.#lastSeen.flush(this.#o.meta, this.#devices.all)
    } catch (thrown) {
      this.#o.env.logger.warn('last_seen was not written; it will be tried again', { error: asKymoError(thrown).message })
    }
  }
}

function isLabel(found: unknown, value: string): boolean {
  return (typeof found === 'string' || typeof found === 'number' || typeof found === 'boolean') && String(found) === value
}

function isConflict(thrown: unknown): boolean {
  return thrown instanceof KymoError && (thrown.code === 'version_conflict' || thrown.code === 'already_exists')
}

async function* documents(meta: MetaStore, collection: string, tenant: string): AsyncGenerator<Awaited<ReturnType<MetaStore['list']>>[number]> {
  for (let after: string | undefined; ;) {
    const rows = await meta.list(collection, tenant, { limit: pageDevices, ...(after === undefined ? {} : { after }) })
    yield* rows
    after = rows.at(-1)?.doc.id
    if (rows.length < pageDevices) return
  }
}
