import path from 'node:path'
import { roleNames, type RoleName } from '../core/config-engines.ts'
import { count } from './format.ts'
import type { Colors } from './terminal.ts'

export interface BannerFacts {
  readonly version: string
  /** As the first line names them; absent: embedded. */
  readonly engines?: string
  readonly nodeVersion: string
  readonly dataDir: string
  readonly cwd: string
  readonly components: readonly { readonly name: string; readonly detail: string; readonly ms: number }[]
  readonly http: string
  /** `mqtts:` when that is the only one; absent: this process has no MQTT door. */
  readonly mqtt?: string
  readonly mqtts?: string
  /** MQTT over WebSocket; absent: not offered. */
  readonly ws?: string
  /** Files of certificates that a client must be given, of each door. */
  readonly trust?: { readonly http?: string; readonly mqtt?: string }
  /** Further HTTP addresses (the ports that the seeds name). */
  readonly extra: readonly string[]
  /** Absent: all. */
  readonly roles?: ReadonlySet<RoleName>
  /** `token`: the lines carry one, taken from the environment of who pastes them. */
  readonly auth: 'loopback' | 'token' | 'open'
  readonly readyMs: number
}

const all: ReadonlySet<RoleName> = new Set(roleNames)

const access = {
  loopback: 'Local use only: bound to loopback.',
  token: 'Tokens are asked for: kymo tokens create --name me --data DIR, then export KYMO_TOKEN=tk_…',
  open: 'Open to everyone who can reach it (auth=open).',
} as const

/** What `kymo start` says when every door accepts: parts with their measured times, addresses, and lines to send a reading. */
export function bannerLines(facts: BannerFacts, colors: Colors): string[] {
  const data = shortPath(facts.dataDir, facts.cwd)
  const lines = [`  ${colors.bold('kymo')} ${facts.version}   ${facts.engines ?? 'embedded'} · data in ${data} · Node ${facts.nodeVersion}`]
  const width = facts.components.reduce((w, c) => Math.max(w, c.detail.length), 30)
  for (const { name, detail, ms } of facts.components) {
    lines.push(`  ${colors.green('✓')} ${name.padEnd(12)} ${detail.padEnd(width)} ${`${count(Math.round(ms))} ms`.padStart(8)}`)
  }
  const http = facts.http.replace(/\/$/, '')
  const { roles = all } = facts
  lines.push('')
  if (roles.has('api')) lines.push(`  Dashboard   ${colors.cyan(`${http}/`)}`, `  API docs    ${colors.cyan(`${http}/docs`)}`)
  lines.push(`  Metrics     ${colors.cyan(`${http}/metrics`)}`)
  if (facts.mqtts !== undefined && facts.mqtts !== facts.mqtt) lines.push(`  MQTT, TLS   ${facts.mqtts}`)
  if (facts.ws !== undefined) lines.push(`  WebSocket   ${facts.ws}   MQTT for browsers`)
  if (facts.extra.length > 0) lines.push(`  Same on     ports ${facts.extra.map((url) => new URL(url).port).join(', ')}`)
  const sends = sendLines(facts)
  if (roles.has('ingest') && sends.length > 0) lines.push('', '  Send your own reading:', ...sends.map((line) => `    ${line}`))
  lines.push('', `  ${access[facts.auth]}  Ready in ${count(Math.round(facts.readyMs))} ms.  Next: kymo tail · kymo doctor · kymo --help`)
  return lines
}

function sendLines(facts: BannerFacts): string[] {
  if (facts.mqtt === undefined) return []
  const http = new URL(facts.http)
  const mqtt = new URL(facts.mqtt)
  const secure = mqtt.protocol === 'mqtts:'
  const port = mqtt.port === '' || mqtt.port === (secure ? '8883' : '1883') ? '' : ` -p ${mqtt.port}`
  // mosquitto_pub speaks TLS once it is told whom to trust, and by itself on 8883.
  const ca = !secure ? '' : facts.trust?.mqtt === undefined ? ' --tls-use-os-certs' : ` --cafile ${facts.trust.mqtt}`
  const login = facts.auth === 'token' ? ' -u kymo -P "$KYMO_TOKEN"' : ''
  const header = facts.auth === 'token' ? ' -H "authorization: Bearer $KYMO_TOKEN"' : ''
  const cacert = http.protocol === 'https:' && facts.trust?.http !== undefined ? `--cacert ${facts.trust.http} ` : ''
  return [
    `mosquitto_pub -h ${mqtt.hostname}${port}${ca}${login} -t portfolio/telemetry \\`,
    `  -m '{"device_id":"dev-1","temperature":25.5}'`,
    `curl ${cacert}${http.protocol === 'https:' ? http.origin : http.host}/ingest${header} -H 'content-type: application/json' \\`,
    `  -d '{"device_id":"dev-1","temperature_c":25.5,"humidity":60}'`,
  ]
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}

function shortPath(dir: string, cwd: string): string {
  const relative = path.relative(cwd, dir)
  return relative === '' ? '.' : relative.startsWith('..') || path.isAbsolute(relative) ? dir : `./${relative}`
}
