import { retentionOf } from '../core/config.ts'
import { asKymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import { pump } from '../core/pump.ts'
import type { Sink, Source } from '../core/ports.ts'
import { Topic } from '../core/record.ts'
import type { DeviceService } from '../core/services.ts'
import { openDeviceRegistry, type DeviceRegistry } from '../devices/registry.ts'
import { encodeAttributes } from '../wire/attributes.ts'
import type { Assembly } from './assembly.ts'
import { sealOf, type Engines } from './engines.ts'
import { openErasures, type Erasures } from './erasures.ts'
import { Hearing, type HearingOptions } from './hearing.ts'
import { followLabels, type LabelledRules } from './labelled-rules.ts'
import { startLive, type Live } from './live.ts'
import type { ServedStore } from './served-store.ts'

/** The devices, as every process with doors knows them. */
export async function openRegistry(a: Assembly, { meta, shared }: Engines): Promise<DeviceRegistry> {
  const registry = await openDeviceRegistry({
    meta,
    series: a.series,
    env: a.env,
    metrics: a.metrics,
    shared,
    seenElsewhere: !a.roles.has('api'),
    get autoRegister() {
      return a.now.devices.auto_register
    },
    get registrationsPerS() {
      return a.now.devices.registrations_per_s
    },
    registrationBurst: limits.registrationBurst,
  })
  return a.closing(registry, (one) => one.close())
}

/** Devices that are made by API are told to the other processes by way of the log: to their doors they are known. */
export function tellingOthers(devices: DeviceService, { log, shared }: Pick<Engines, 'log' | 'shared'>, { env }: Assembly): DeviceService {
  if (!shared) return devices
  const tell = async (tenant: string, device: string): Promise<void> => {
    // Nothing was heard of it: as with a retained message, it is not seen.
    const body = encodeAttributes({ tenant, device, changes: {}, retained: true })
    const record = { topic: Topic.telemetry, kind: 'attributes', key: device, receivedUs: env.clock.nowUs(), body } as const
    await log.write([record], undefined, new AbortController().signal)
  }
  return {
    create: async (tenant, given) => {
      const made = await devices.create(tenant, given)
      await tell(tenant, made.id)
      return made
    },
    get: (tenant, id) => devices.get(tenant, id),
    list: (tenant, o) => devices.list(tenant, o),
    count: (tenant) => devices.count(tenant),
    update: (tenant, id, patch, version) => devices.update(tenant, id, patch, version),
    seen: (tenant, id, receivedUs) => devices.seen(tenant, id, receivedUs),
  }
}

/** What a process hears of what others let in; undefined: nobody else writes this log. */
export interface Hears extends Pick<HearingOptions, 'origins' | 'ticked'> {
  /** A device was erased: who remembers it by its series forgets it now. */
  readonly forgotten: (tenant: string, device: string) => void
}

/** For a process that takes readings and answers no questions: it only hears of the others. `reader` begins where the registry was loaded, or before. */
export function startHearing(a: Assembly, reader: Source, registry: DeviceRegistry, { forgotten, ...hears }: Hears): void {
  const { series, env } = a
  const onForgotten = (tenant: string, device: string): void => {
    series.forget(tenant, device)
    forgotten(tenant, device)
  }
  const hearing = new Hearing({ registry, series, onForgotten, ...hears })
  const sink: Sink = {
    write: async (records) => {
      for (const record of records) hearing.take(record)
      await Promise.resolve()
    },
    close: () => Promise.resolve(),
  }
  const abort = new AbortController()
  const pumped = pump(reader, sink, abort.signal, { env, name: 'hearing' }).catch((thrown: unknown) => {
    if (!abort.signal.aborted) a.fail(asKymoError(thrown))
  })
  a.stack.push(async () => {
    abort.abort()
    await pumped
    await reader.close()
  })
}

/** What the api role knows beyond the registry: latest values, erasures, and which devices rules of retention are for. */
export interface Knowledge {
  readonly live: Live
  readonly erasures: Erasures
  readonly labels: LabelledRules
}

/** Resolves when all that the log held at the start is taken in. */
export async function startKnowing(
  a: Assembly,
  { meta, log, logKeeps, shared, forecasts }: Engines,
  store: ServedStore,
  registry: DeviceRegistry,
  hears: Hears,
): Promise<Knowledge> {
  const { env, metrics, series, closing } = a
  const forgets = forecasts === undefined ? {} : { forecasts }
  const erasures = closing(await openErasures({ meta, log, store, devices: registry, env, kept: logKeeps, shared, ...forgets }), (one) => one.stop())
  const { forgotten, ...heard } = hears
  const hearing = shared ? { hearing: new Hearing({ registry, series, ...heard }) } : {}
  const live = await startLive({
    log,
    store,
    series,
    registry,
    env,
    metrics,
    onFatal: a.fail,
    onErasure: (request, at) => erasures.met(request, at),
    forgotten,
    ...hearing,
  })
  closing(live, (one) => one.stop())
  await erasures.begin()
  const labels = followLabels({
    registry,
    retention: () => retentionOf(a.now),
    tell: (retention) => store.reconfigure({ retention, seal: sealOf(a.now) }),
    env,
  })
  closing(labels, async (one) => one.stop())
  return { live, erasures, labels }
}
