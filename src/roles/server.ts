import fs from 'node:fs'
import path from 'node:path'
import { enginesOf, type RoleName } from '../core/config-engines.ts'
import { forecastOptionsOf } from '../core/config-forecast.ts'
import type { Config } from '../core/config.ts'
import { retentionOf } from '../core/config.ts'
import type { Env } from '../core/env.ts'
import { asKymoError, KymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import { sleep } from '../core/pump.ts'
import { Topic } from '../core/record.ts'
import type { SnapshotService } from '../core/snapshot.ts'
import type { CertificateReload } from '../doors/tls/certificates.ts'
import type { HttpAuth, HttpDoor } from '../doors/http/options.ts'
import type { MqttDoor } from '../doors/mqtt/door.ts'
import type { KafkaPull } from '../doors/pull/kafka/door.ts'
import type { MqttPull } from '../doors/pull/mqtt/door.ts'
import type { DeviceRegistry } from '../devices/registry.ts'
import { openTokens } from '../devices/tokens.ts'
import { absent, closedGate, otherRole } from './absent.ts'
import { effectiveAuth } from './access.ts'
import { Assembly, type StartedComponent } from './assembly.ts'
import { startDeadLetters, type DeadLetters } from './dead-letters.ts'
import { mqttUpgrades, mqttUrls, webSocketUrl } from './doors.ts'
import { openEngines, sealOf, type Engines } from './engines.ts'
import { announceFirst, type FirstMessage } from './first-message.ts'
import { openForecastRole, type ForecastRole } from './forecast/role.ts'
import { type Jobs, openJobs } from './jobs/jobs.ts'
import { ownCollection } from './jobs/stored.ts'
import { openRegistry, startHearing, startKnowing, tellingOthers, type Knowledge } from './knowing.ts'
import { kafkaPullComponent, prepareKafkaPull } from './kafka-pull.ts'
import { publishGroups, startKafkaPublish } from './kafka-publish.ts'
import { preparePull, pullComponent } from './mqtt-pull.ts'
import { openGuards, openHttp, openMqtt, type Guards } from './open-doors.ts'
import { nothingStored } from './served-store.ts'
import { openSnapshots } from './snapshots.ts'
import { retentionStatus, systemStatus } from './status.ts'
import { openTaking, type Taking } from './taking.ts'

export type { FirstMessage, StartedComponent }

export interface ServerOptions {
  /** The program that runs a command line as a job: a process of its own. */
  readonly jobScript: string
}

export interface RunningServer {
  readonly components: readonly StartedComponent[]
  readonly roles: ReadonlySet<RoleName>
  /** `mqtt`: without TLS, where that is open; `mqtts`: with it. Neither: this process has no MQTT door. */
  readonly urls: { readonly http: string; readonly mqtt?: string; readonly mqtts?: string; readonly ws?: string; readonly extra: readonly string[] }
  readonly ports: { readonly http: number; readonly mqtt?: number; readonly mqtts?: number }
  /** Certificates that clients must be given because they are signed by themselves: the file of each door. */
  readonly trust?: { readonly http?: string; readonly mqtt?: string }
  readonly dataDir: string
  /** A token to be printed; absent: none was made by this start. */
  readonly token?: string
  readonly auth: HttpAuth
  onFirstMessage(listener: (message: FirstMessage) => void): void
  /** Called once: the process must end with the error's exit code. */
  onFatal(listener: (error: KymoError) => void): void
  /** Messages taken and not yet durable. */
  pending(): number
  /** Takes over the settings that are marked `reload`; the others must be as they were. When it rejects, all is as before. */
  reconfigure(next: Config): Promise<void>
  /** Reads the files of certificates now; none: no door speaks TLS. What cannot be used changes nothing. */
  reloadCertificates(): readonly CertificateReload[]
  stop(): Promise<{ readonly drained: number; readonly lost: number }>
}

export const version: string = (JSON.parse(fs.readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }).version

/** Between tries to start while an engine elsewhere does not answer. */
const againMs = { first: 500, max: 15_000 }

/**
 * One process with the roles that the settings name: engines, what the roles make of them, and the doors last, so that the first message that is taken can
 * be kept. Rejects with a KymoError when a part does not start; what had started is closed again. An engine elsewhere that does not answer is waited for.
 */
export async function startServer(config: Config, env: Env, o: ServerOptions): Promise<RunningServer> {
  const { log, store, meta } = enginesOf(config)
  const alone = [log, store, meta].every(({ kind }) => kind === 'local')
  for (let waitMs = againMs.first; ; waitMs = Math.min(againMs.max, waitMs * 2)) {
    const a = new Assembly(config, env)
    try {
      return await compose(a, o)
    } catch (thrown) {
      await a.stack.unwind(env)
      const error = asKymoError(thrown)
      if (alone || error.kind !== 'unavailable') throw thrown
      env.logger.warn(`The start waits for an engine and tries again: ${error.message}`, { code: error.code })
      await sleep(env, waitMs * (0.5 + env.random.next() / 2))
    }
  }
}

/** The parts of a process; what its roles do not need is absent. */
interface Parts {
  readonly engines: Engines
  readonly guards: Guards
  /** Roles ingest and api. */
  readonly registry?: DeviceRegistry
  readonly taking?: Taking
  /** Role api. */
  readonly knowledge?: Knowledge
  readonly deadLetters?: DeadLetters
  readonly jobs?: Jobs
  readonly snapshots?: SnapshotService
  /** Role forecast. */
  readonly forecasting?: ForecastRole
  /** Role ingest. */
  readonly mqtt?: MqttDoor
  pull?: MqttPull
  kafkaPull?: KafkaPull
}

async function compose(a: Assembly, o: ServerOptions): Promise<RunningServer> {
  const { config, env, roles } = a
  const preparedPull = roles.has('ingest') ? await preparePull(config) : undefined
  const preparedKafka = roles.has('ingest') ? await prepareKafkaPull(config, env) : undefined
  const { dataDir, log } = enginesOf(config)
  const fresh = log.kind === 'local' && !fs.existsSync(log.path)
  env.disk.mkdir(dataDir)
  const engines = await a.timed(
    'storage',
    () => (fresh ? 'opened (new)' : 'opened'),
    () => openEngines(a),
  )
  const tokens = a.closing(await openTokens({ meta: engines.meta, env }), (one) => one.close())
  const guards = openGuards(a, tokens, effectiveAuth(config, tokens.any))
  const parts: Parts = { engines, guards, ...(await openRoles(a, engines, o)) }
  const mqtt =
    engines.sessions === undefined || parts.taking === undefined || !roles.has('ingest')
      ? {}
      : { mqtt: await openMqtt(a, guards, parts.taking.ingest, engines.sessions, version) }
  if (roles.has('store')) await openPublishing(a, engines)
  if (preparedKafka !== undefined && parts.taking !== undefined) {
    parts.kafkaPull = a.closing(await preparedKafka.open({ gate: parts.taking.ingest, env, metrics: a.metrics }), (one) =>
      one.close(limits.drainTimeoutMs),
    )
    a.components.push({ name: 'kafka pull', detail: parts.kafkaPull.status().detail, ms: 0 })
  }
  return running(a, { ...parts, ...mqtt }, preparedPull)
}

/** Readings and dead letters go on to topics of Kafka, where settings say so. */
async function openPublishing({ config, env, metrics, fail, closing }: Assembly, { log }: Engines): Promise<void> {
  if (publishGroups(config).some(({ wanted }) => wanted))
    closing(await startKafkaPublish({ config, log, env, metrics, onFatal: fail }), (one) => one.stop())
}

/** What stands between the engines and the doors. */
async function openRoles(a: Assembly, engines: Engines, o: ServerOptions): Promise<Omit<Parts, 'engines' | 'guards'>> {
  const { roles, env, series } = a
  if (!roles.has('ingest') && !roles.has('api')) return {}
  const { log, meta, store, chosen, shared, files } = engines
  // Begins before the registry is read: what others let in meanwhile is heard, too.
  const hearing =
    shared && !roles.has('api') ? log.reader({ topic: Topic.telemetry, start: 'latest', batch: { lingerMs: limits.liveLingerMs } }) : undefined
  const registry = await openRegistry(a, engines)
  const taking = openTaking(a, engines)
  const { ingest, decoder } = taking
  const hears = {
    forgotten: (tenant: string, device: string): void => decoder.forget(tenant, device),
    ...(shared ? { origins: ingest.heardOrigins.bind(ingest), ticked: ingest.heardTick.bind(ingest) } : {}),
  }
  const knowledge = store === undefined || !roles.has('api') ? undefined : await startKnowing(a, engines, store, registry, hears)
  await ingest.rebuildOrigins()
  if (hearing !== undefined) startHearing(a, hearing, registry, hears)
  series.admission = registry.admission
  if (knowledge === undefined) return { registry, taking }
  const deadLetters = a.closing(await startDeadLetters({ log, gate: ingest, env, metrics: a.metrics, onFatal: a.fail }), (one) => one.stop())
  const { dataDir } = chosen
  const own: { jobs?: Jobs; snapshots?: SnapshotService; forecasting?: ForecastRole } = {}
  const ownMeta = chosen.meta.kind === 'local'
  if (ownMeta || roles.has('forecast')) {
    const options = { meta, env, dir: path.join(dataDir, 'jobs'), reserveBytes: a.config.log.reserve_bytes, script: o.jobScript }
    const apart = ownMeta ? {} : { collection: ownCollection(dataDir, env), noCommands: noJobs }
    own.jobs = a.closing(await openJobs({ ...options, ...apart }), (one) => one.stop())
    const forecasting = openForecasting(a, engines, own.jobs, registry)
    if (forecasting !== undefined) own.forecasting = forecasting
  }
  if (files !== undefined) {
    const snapshots = openSnapshots({ ...files, dir: path.join(dataDir, 'snapshots'), env, version })
    own.snapshots = knowledge.erasures.remembering(a.closing(snapshots, (one) => one.stop()))
  }
  return { registry, taking, knowledge, deadLetters, ...own }
}

/** Role forecast: what is forecast, where, is told by the settings. */
function openForecasting(
  { config, env, metrics, roles, closing }: Assembly,
  { forecasts, store }: Engines,
  jobs: Jobs,
  registry: DeviceRegistry,
): ForecastRole | undefined {
  if (forecasts === undefined || store === undefined || !roles.has('forecast')) return undefined
  const options = forecastOptionsOf(config)
  const role = openForecastRole({ store, forecasts, jobs, options, env, metrics, tenants: () => registry.tenants() })
  return closing(role, (one) => one.stop())
}

/** What this deployment has not: told by the routes that would offer it. */
const noSnapshots = new KymoError('not_offered', {
  detail:
    'Snapshots are of a data directory that has log, store and metadata. Back up the engines elsewhere by their own means: pg_basebackup, pg_dump.',
})
const noJobs = new KymoError('not_offered', {
  detail:
    'Imports and exports as jobs keep their files in the data directory of one server, beside its own metadata. Run kymo import or kymo export with --url: they do the same.',
})

async function openRoutes(a: Assembly, parts: Parts): Promise<HttpDoor> {
  const { engines, guards, taking, registry, knowledge, deadLetters, jobs, snapshots, forecasting, mqtt } = parts
  const { roles } = a
  const elsewhere = otherRole(roles)
  return openHttp(a, guards, {
    serves: { ingest: taking !== undefined, api: knowledge !== undefined },
    version,
    gate: taking?.ingest ?? closedGate(elsewhere),
    store: engines.store ?? absent(elsewhere),
    devices: registry === undefined ? absent(elsewhere) : tellingOthers(registry, engines, a),
    jobs: jobs ?? absent(noJobs),
    forecasts: forecasting?.service ?? absent(elsewhere),
    ...(jobs === undefined ? {} : { innerJobs: jobs }),
    erasures: knowledge?.erasures ?? absent(elsewhere),
    snapshots: snapshots ?? absent(noSnapshots),
    latest: knowledge?.live ?? absent(elsewhere),
    live: knowledge?.live ?? absent(elsewhere),
    deadLetters: deadLetters ?? absent(elsewhere),
    mqtt,
    noMqtt: absent(elsewhere),
    status: () => statusOf(a, parts),
  })
}

function statusOf(
  a: Assembly,
  { engines, guards, taking, registry, deadLetters, mqtt, pull, kafkaPull, knowledge, forecasting }: Parts,
): ReturnType<typeof systemStatus> {
  const { log, logBytes, store, chosen } = engines
  const stats = store?.stats()
  return systemStatus({
    version,
    startedUs: a.startedUs,
    dataDir: chosen.dataDir,
    storage: taking?.storage.use() ?? { log_bytes: logBytes(Topic.telemetry) + logBytes(Topic.deadLetters), store_bytes: stats?.bytes ?? 0 },
    retention: retentionStatus(retentionOf(a.now), stats ?? nothingStored),
    draining: a.draining,
    fatal: a.fatal,
    ...(taking === undefined ? {} : { ingest: taking.ingest }),
    health: a.health,
    log,
    groups: [...(store === undefined ? [] : ['store']), ...(knowledge === undefined ? [] : ['registry'])],
    series: a.series,
    devices: registry?.count('default') ?? 0,
    devicesActive: registry?.active ?? 0,
    deadLettersWaiting: deadLetters?.waiting ?? 0,
    mqttConnections: mqtt?.connections() ?? 0,
    pulls: [...(pull === undefined ? [] : [pullComponent(pull)]), ...(kafkaPull === undefined ? [] : [kafkaPullComponent(kafkaPull)])],
    certificates: guards.tls.all.map((one) => one.component()),
    ...(forecasting === undefined ? {} : { forecasting: [forecasting.component()] }),
  })
}

async function running(a: Assembly, parts: Parts, preparedPull: Awaited<ReturnType<typeof preparePull>>): Promise<RunningServer> {
  const { config, env, components } = a
  const { engines, guards, taking, knowledge, jobs, forecasting, mqtt } = parts
  const http = await openRoutes(a, parts)
  if (preparedPull !== undefined && taking !== undefined && mqtt !== undefined) {
    const { host } = config.mqtt
    const doors = [{ host, port: mqtt.port }, ...(mqtt.tlsPort === undefined ? [] : [{ host, port: mqtt.tlsPort }])]
    const pull = await preparedPull.open({ gate: taking.ingest, meta: engines.meta, env, metrics: a.metrics, doors })
    parts.pull = a.closing(pull, (one) => one.close(limits.drainTimeoutMs))
    components.push({ name: 'mqtt pull', detail: pull.status().detail, ms: 0 })
  }
  http.setReady(true)
  jobs?.begin(http.innerUrl, forecasting?.runners)
  forecasting?.begin()
  return {
    components,
    roles: a.roles,
    ...reached(a, guards, http, mqtt),
    trust: guards.tls.trust,
    dataDir: engines.chosen.dataDir,
    auth: guards.auth,
    onFirstMessage(listener) {
      const { store } = engines
      if (knowledge === undefined || store === undefined || !a.roles.has('store')) return
      const committed: Parameters<typeof announceFirst>[0]['committed'] = (hear) => store.onCommitted(hear)
      announceFirst({ live: knowledge.live, committed, env, skip: (device) => device.startsWith('demo-') }, listener)
    },
    onFatal: (listener) => a.onFatal(listener),
    pending: () => taking?.ingest.pendingMessages ?? 0,
    async reconfigure(next) {
      const retention = knowledge?.labels.resolved(retentionOf(next)) ?? retentionOf(next)
      await engines.store?.reconfigure({ retention, seal: sealOf(next) })
      a.now = next
    },
    reloadCertificates: () => guards.tls.all.map((one) => one.reload()),
    async stop() {
      a.draining = true
      // They are clients of this server: they save where they are while it still answers.
      await jobs?.stop()
      http.stopAccepting()
      mqtt?.stopAccepting()
      parts.pull?.stopReading()
      parts.kafkaPull?.stopReading()
      // Requests that are half taken are finished first: their rest would otherwise be refused.
      await http.close(limits.drainTimeoutMs)
      const result = (await taking?.ingest.stop()) ?? { drained: 0, lost: 0 }
      await a.stack.unwind(env)
      return result
    },
  }
}

/** Where the doors are. */
function reached({ config }: Assembly, { tls }: Guards, http: HttpDoor, mqtt: MqttDoor | undefined): Pick<RunningServer, 'urls' | 'ports'> {
  const extra = http.ports.slice(1).map((port) => `${tls.http === undefined ? 'http' : 'https'}://${config.http.host}:${port}`)
  if (mqtt === undefined) return { urls: { http: http.url, extra }, ports: { http: http.port } }
  const [mqttUrl = '', second] = mqttUrls(config, mqtt)
  const mqttsUrl = mqttUrl.startsWith('mqtts:') ? mqttUrl : second
  const wsUrl = webSocketUrl(mqttUpgrades(config, mqtt), http.url)
  return {
    urls: {
      http: http.url,
      mqtt: mqttUrl,
      ...(mqttsUrl === undefined ? {} : { mqtts: mqttsUrl }),
      ...(wsUrl === undefined ? {} : { ws: wsUrl }),
      extra,
    },
    ports: { http: http.port, mqtt: mqtt.port, ...(mqtt.tlsPort === undefined ? {} : { mqtts: mqtt.tlsPort }) },
  }
}
