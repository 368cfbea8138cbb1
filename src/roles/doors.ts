import path from 'node:path'
import type { Config } from '../core/config.ts'
import { corsOrigins } from '../core/config-doors.ts'
import type { Env } from '../core/env.ts'
import { limits } from '../core/limits.ts'
import type { Metrics } from '../core/metrics.ts'
import type { HttpDoorOptions, Upgrade } from '../doors/http/options.ts'
import type { MqttDoor } from '../doors/mqtt/door.ts'
import { KeyedRate } from '../doors/rate.ts'
import { openCertificates, type Certificates } from '../doors/tls/certificates.ts'
import type { TlsFiles } from '../doors/tls/files.ts'
import { HandshakeGate } from '../doors/tls/handshakes.ts'
import type { ClientCertificates, TlsListener } from '../doors/tls/listener.ts'

/** The files of a door's certificate; undefined: it speaks no TLS. */
export function tlsFilesOf(config: Config, door: 'http' | 'mqtt'): TlsFiles | undefined {
  const { cert_file, key_file, ca_file, min_version } = config[door].tls
  if (cert_file === '') return undefined
  const at = (file: string): string => (file === '' ? '' : path.resolve(file))
  return { setting: `${door}.tls`, certFile: at(cert_file), keyFile: at(key_file), caFile: at(ca_file), minVersion: min_version }
}

/** TLS of both doors, as far as the settings ask for it; they share the rate at which handshakes begin. Throws as `readCertificate` does. */
export function openTls(
  config: Config,
  env: Env,
  metrics: Metrics,
): {
  readonly http?: TlsListener
  readonly mqtt?: TlsListener
  readonly all: readonly Certificates[]
  /** The certificate's file of doors whose certificate is signed by itself. */
  readonly trust: { readonly http?: string; readonly mqtt?: string }
  stop(): void
} {
  const all: Certificates[] = []
  let handshakes: HandshakeGate | undefined
  const stop = (): void => {
    for (const one of all) one.stop()
  }
  const open = (door: 'http' | 'mqtt', clientCertificates: ClientCertificates): TlsListener | undefined => {
    const files = tlsFilesOf(config, door)
    if (files === undefined) return undefined
    const certificates = openCertificates(door, files, env, metrics)
    all.push(certificates)
    handshakes ??= new HandshakeGate(env.clock, config.tls.handshakes_per_s, metrics)
    return { certificates, handshakes, clientCertificates }
  }
  try {
    const http = open('http', config.http.tls.client_certificates)
    const mqtt = open('mqtt', config.mqtt.tls.client_certificates)
    const trust = {
      ...(http?.certificates.current.selfSigned === true ? { http: config.http.tls.cert_file } : {}),
      ...(mqtt?.certificates.current.selfSigned === true ? { mqtt: config.mqtt.tls.cert_file } : {}),
    }
    return { ...(http === undefined ? {} : { http }), ...(mqtt === undefined ? {} : { mqtt }), all, trust, stop }
  } catch (thrown) {
    stop()
    throw thrown
  }
}

/** What stands before the HTTP door beside credentials: TLS, CORS and the rate of requests, as far as the settings ask for them. */
export function httpGuards({ http }: Config, env: Env, tls: TlsListener | undefined): Pick<HttpDoorOptions, 'tls' | 'cors' | 'requestRate'> {
  const origins = corsOrigins({ http })
  const { requests_per_s: perS, burst } = http.rate
  return {
    ...(tls === undefined ? {} : { tls: { ...tls, hstsMaxAgeS: http.tls.hsts_max_age_s } }),
    ...(origins.size === 0 ? {} : { cors: origins }),
    ...(perS === 0 ? {} : { requestRate: new KeyedRate(env.clock, { perS, burst, keysMax: limits.httpRateKeysMax }) }),
  }
}

/** Where MQTT over WebSocket is spoken. */
const webSocketPath = '/mqtt'

/** Whether the authorities that vouch for clients of the HTTP door are those of the MQTT door. */
export function sameAuthorities({ http, mqtt }: Config): boolean {
  return http.tls.client_certificates === 'require' && http.tls.ca_file !== '' && path.resolve(http.tls.ca_file) === path.resolve(mqtt.tls.ca_file)
}

/** What the HTTP door offers of the MQTT door: nothing that the settings of its own ports would not let in. */
export function mqttUpgrades(config: Config, door: Pick<MqttDoor, 'upgrade'>): readonly Upgrade[] {
  const { mqtt, http } = config
  const guarded = http.tls.cert_file !== '' && (mqtt.tls.client_certificates !== 'require' || sameAuthorities(config))
  if (!mqtt.ws || !(mqtt.plain || guarded)) return []
  return [{ path: webSocketPath, accept: (request, socket, head) => door.upgrade(request, socket, head) }]
}

/** Where MQTT over WebSocket is spoken, if it is; `http`: the HTTP door's address. */
export function webSocketUrl(upgrades: readonly Upgrade[], http: string): string | undefined {
  const [upgrade] = upgrades
  return upgrade === undefined ? undefined : `${http.replace(/^http/, 'ws')}${upgrade.path}`
}

/** The addresses of the MQTT door, the one without TLS first. */
export function mqttUrls({ mqtt }: Config, door: Pick<MqttDoor, 'port' | 'tlsPort'>): string[] {
  return [
    ...(mqtt.plain ? [`mqtt://${mqtt.host}:${door.port}`] : []),
    ...(door.tlsPort === undefined ? [] : [`mqtts://${mqtt.host}:${door.tlsPort}`]),
  ]
}
