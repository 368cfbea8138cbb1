import type { Config } from '../../../core/config.ts'
import { asKymoError, KymoError } from '../../../core/errors.ts'
import { type BrokerAddress, parseBrokerAddress } from '../../../wire/mqtt/address.ts'
import { type PullTopics, pullTopics } from './filters.ts'
import { readTlsFiles, type TlsFiles } from './link.ts'

/** What the settings say of the outside broker, checked. */
export interface ConfiguredPull {
  readonly address: BrokerAddress
  readonly topics: PullTopics
  readonly clientId: string
  readonly username?: string
  readonly password?: string
  readonly keepAliveS: number
  readonly tls: TlsFiles
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
  const topics = checked('mqtt.pull.topics', () => pullTopics(list))
  const tls: TlsFiles = {
    ...(pull.ca_file === '' ? {} : { caFile: pull.ca_file }),
    ...(pull.cert_file === '' ? {} : { certFile: pull.cert_file }),
    ...(pull.key_file === '' ? {} : { keyFile: pull.key_file }),
  }
  if ((tls.caFile ?? tls.certFile ?? tls.keyFile) !== undefined && !address.secure)
    throw invalid('mqtt.pull.url', 'a certificate is used with mqtts:// only')
  if ((pull.cert_file === '') !== (pull.key_file === '')) throw invalid('mqtt.pull.cert_file', 'cert_file and key_file go together')
  checked('mqtt.pull.ca_file', () => readTlsFiles(tls))
  for (const [name, text] of [
    ['mqtt.pull.client_id', pull.client_id],
    ['mqtt.pull.username', pull.username || address.username],
    ['mqtt.pull.password', pull.password || address.password],
  ] as const)
    if (text !== undefined && (text.includes('\0') || Buffer.byteLength(text) > 65_535)) throw invalid(name, 'is no text that MQTT carries')
  return {
    address,
    topics,
    clientId: pull.client_id,
    ...(pull.username === '' ? {} : { username: pull.username }),
    ...(pull.password === '' ? {} : { password: pull.password }),
    keepAliveS: pull.keepalive_s,
    tls,
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
