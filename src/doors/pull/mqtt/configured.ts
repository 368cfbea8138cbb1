import type { Config } from '../../../core/config.ts'
import { asKymoError, KymoError } from '../../../core/errors.ts'
import { type BrokerAddress, parseBrokerAddress } from '../../../wire/mqtt/address.ts'
import type { MqttVersion } from './dialect.ts'
import { type PullTopics, pullTopics } from './filters.ts'
import { readTlsFiles, type TlsFiles } from './link.ts'

/** What the settings say of the outside broker, checked. */
export interface ConfiguredPull {
  readonly address: BrokerAddress
  readonly tls: TlsFiles
  readonly topics: PullTopics
  /** '': one that is made once and kept. */
  readonly clientId: string
  /** Also from the address. */
  readonly username?: string
  readonly password?: string
  readonly version: 'auto' | MqttVersion
  readonly keepAliveS: number
  /** How long the broker is to keep the session while nobody is connected (MQTT 5). */
  readonly sessionExpiryS: number
  /** Messages that may be under way to the log's disk; of MQTT 5 the Receive Maximum. */
  readonly inflightMax: number
}

/** Undefined: no outside broker is set. Throws config_invalid, which names the setting. */
export function configuredPull({ mqtt }: Pick<Config, 'mqtt'>): ConfiguredPull | undefined {
  const { pull } = mqtt
  if (pull.url === '') return undefined
  const address = checked('mqtt.pull.url', () => {
    if (!pull.url.includes('://')) throw new Error('it begins with mqtt:// or mqtts://')
    return parseBrokerAddress(pull.url)
  })
  const list = (pull.topics || mqtt.topics).split(',').map((topic) => topic.trim())
  if (/[+#/]/.test(pull.group)) throw invalid('mqtt.pull.group', 'is a name without +, # and /')
  const topics = checked('mqtt.pull.topics', () => pullTopics(list, pull.group))
  const tls: TlsFiles = {
    ...(pull.ca_file === '' ? {} : { caFile: pull.ca_file }),
    ...(pull.cert_file === '' ? {} : { certFile: pull.cert_file }),
    ...(pull.key_file === '' ? {} : { keyFile: pull.key_file }),
  }
  if ((tls.caFile ?? tls.certFile ?? tls.keyFile) !== undefined && !address.secure)
    throw invalid('mqtt.pull.url', 'a certificate is used with mqtts:// only')
  if ((pull.cert_file === '') !== (pull.key_file === '')) throw invalid('mqtt.pull.cert_file', 'cert_file and key_file go together')
  checked('mqtt.pull.ca_file', () => readTlsFiles(tls))
  const username = pull.username || address.username
  const password = pull.password || address.password
  for (const [name, text] of [
    ['mqtt.pull.client_id', pull.client_id],
    ['mqtt.pull.group', pull.group],
    ['mqtt.pull.username', username],
    ['mqtt.pull.password', password],
  ] as const)
    if (text !== undefined && (text.includes('\0') || Buffer.byteLength(text) > 65_535)) throw invalid(name, 'is no text that MQTT carries')
  return {
    address,
    tls,
    topics,
    clientId: pull.client_id,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    version: pull.version,
    keepAliveS: pull.keepalive_s,
    sessionExpiryS: pull.session_expiry_s,
    inflightMax: pull.inflight_max,
  }
}

function checked<T>(name: string, check: () => T): T {
  try {
    return check()
  } catch (thrown) {
    throw invalid(name, thrown instanceof KymoError ? thrown.message : asKymoError(thrown).message)
  }
}

function invalid(name: string, detail: string): KymoError {
  return new KymoError('config_invalid', { detail: `${name}: ${detail}`, errors: [{ pointer: name, detail }] })
}
