import type { Config } from './config.ts'
import type { FieldError } from './errors.ts'
import { limits } from './limits.ts'

/** What the settings of the doors must be together: TLS, and the origins of CORS. Empty: nothing is wrong. */
export function doorErrors({ http, mqtt, demo }: Config): FieldError[] {
  const errors: FieldError[] = []
  const wrong = (pointer: string, detail: string): void => void errors.push({ pointer, detail })
  for (const [name, tls] of [
    ['http', http.tls],
    ['mqtt', mqtt.tls],
  ] as const) {
    if (tls.cert_file !== '' && tls.key_file === '') wrong(`${name}.tls.key_file`, 'is missing: a certificate needs its key')
    if (tls.cert_file === '' && tls.key_file !== '') wrong(`${name}.tls.cert_file`, 'is missing: a key needs its certificate')
    if (tls.cert_file === '' && tls.client_certificates !== 'off')
      wrong(`${name}.tls.client_certificates`, `needs TLS: set ${name}.tls.cert_file and ${name}.tls.key_file`)
    else if (tls.client_certificates !== 'off' && tls.ca_file === '')
      wrong(`${name}.tls.ca_file`, 'is missing: it says whose certificates of clients are good')
    if (tls.client_certificates === 'off' && tls.ca_file !== '')
      wrong(`${name}.tls.client_certificates`, `is off, so that ${name}.tls.ca_file would have no effect; set it to require, or leave the file out`)
  }
  if (mqtt.tls.identity !== 'off' && mqtt.tls.client_certificates === 'off')
    wrong('mqtt.tls.identity', 'needs certificates of clients: set mqtt.tls.client_certificates to request or require')
  if (!mqtt.plain && mqtt.tls.cert_file === '') wrong('mqtt.plain', 'is off and there is no mqtt.tls.cert_file: the door would have no port')
  if (!mqtt.plain && demo.devices > 0) wrong('demo.devices', 'needs mqtt.plain: the simulated devices connect without TLS')
  const origins = listOf(http.cors.origins)
  for (const origin of origins) {
    const why = originComplaint(origin)
    if (why !== undefined) wrong('http.cors.origins', `"${origin.slice(0, 100)}" ${why}`)
  }
  if (origins.length > limits.corsOriginsMax) wrong('http.cors.origins', `has ${origins.length} origins; ${limits.corsOriginsMax} are taken`)
  return errors
}

function listOf(text: string): string[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
}

function originComplaint(text: string): string | undefined {
  if (text.includes('*')) return 'is a wildcard: name the origins, any page could speak for its visitor otherwise'
  const url = URL.parse(text)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) return 'is no origin: https://app.example.com is one'
  return url.origin === text ? undefined : `must be written as browsers send it: ${url.origin}`
}

/** Origins whose pages may call the API. */
export function corsOrigins({ http }: Pick<Config, 'http'>): ReadonlySet<string> {
  return new Set(listOf(http.cors.origins))
}
