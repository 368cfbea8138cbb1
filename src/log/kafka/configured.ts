import fs from 'node:fs'
import type { Config } from '../../core/config.ts'
import { ageUs } from '../../core/duration.ts'
import type { Env } from '../../core/env.ts'
import { asKymoError, KymoError } from '../../core/errors.ts'
import { Topic } from '../../core/record.ts'
import type { ClusterOptions } from './cluster.ts'
import type { KafkaLogOptions } from './log.ts'
import { parseKafkaUrl, type KafkaAddress } from './options.ts'

/** A file that a setting names. Throws `tls_file_unreadable`, which names both; undefined: none is set. */
function read(setting: string, file: string): string | undefined {
  if (file === '') return undefined
  try {
    return fs.readFileSync(file, 'utf8')
  } catch (thrown) {
    const detail = `${setting}: ${file} cannot be read: ${asKymoError(thrown).message}`
    throw new KymoError('tls_file_unreadable', { detail, cause: thrown })
  }
}

/**
 * An address of Kafka with what `kafka.*` adds to it; `setting` is where it stands. User, password and token are those of `log.url`: another cluster gets
 * none that its own address does not hold. Throws `config_invalid` or `tls_file_unreadable`.
 */
export function kafkaAddress({ kafka }: Pick<Config, 'kafka'>, url: string, setting: KafkaSetting = 'log.url'): KafkaAddress {
  const { token_file: file, sasl, username, password } = kafka
  const token = file === '' ? kafka.token : async (): Promise<string> => (await fs.promises.readFile(file, 'utf8')).trim()
  const address = parseKafkaUrl(url, setting, setting === 'log.url' ? { from: 'kafka', sasl, username, password, token } : undefined)
  const ca = read('kafka.ca_file', kafka.ca_file)
  const cert = read('kafka.cert_file', kafka.cert_file)
  const key = read('kafka.key_file', kafka.key_file)
  if ((cert === undefined) !== (key === undefined)) throw misfit('kafka.cert_file and kafka.key_file belong together')
  const files = { ...(ca === undefined ? {} : { ca }), ...(cert === undefined ? {} : { cert }), ...(key === undefined ? {} : { key }) }
  if (address.tls !== undefined) return { ...address, tls: files }
  if (setting === 'log.url' && Object.keys(files).length > 0)
    throw misfit('kafka.ca_file, cert_file and key_file are for TLS: log.url needs kafkas:// or ?tls=true')
  return address
}

type KafkaSetting = 'log.url' | 'kafka.pull.url' | 'kafka.publish.url'

function misfit(detail: string): KymoError {
  return new KymoError('config_invalid', { detail, errors: [{ pointer: '/kafka', detail }] })
}

/** The log at `url` as `kafka.*` wants it. Nothing is connected to. Throws `config_invalid` or `tls_file_unreadable`. */
export function kafkaLogOptions(env: Env, config: Pick<Config, 'kafka'>, url: string): KafkaLogOptions {
  const { kafka } = config
  const retentionUs = kafka.retention === '' ? undefined : ageUs(kafka.retention)
  return {
    env,
    address: kafkaAddress(config, url),
    prefix: kafka.prefix,
    partitions: (topic) => (topic === Topic.telemetry ? kafka.partitions : 1),
    replication: kafka.replication,
    retentionMs: retentionUs === undefined ? -1 : Math.round(retentionUs / 1000),
    compression: kafka.compression,
    lingerMs: kafka.linger_ms,
    batchBytes: kafka.batch_bytes,
    // The one group that every deployment has, and that goes on only when it is durable (roles/store.ts).
    unusableGroup: 'store',
  }
}

/** Topics of others, at the cluster that this setting names, or at that of the log. Throws `config_invalid` when there is neither. */
export function kafkaDocumentOptions(
  env: Env,
  config: Pick<Config, 'kafka' | 'log'>,
  setting: 'kafka.pull.url' | 'kafka.publish.url',
): ClusterOptions {
  const { kafka, log } = config
  const own = setting === 'kafka.pull.url' ? kafka.pull.url : kafka.publish.url
  const ofLog = own === '' && /^kafkas?:/.test(log.url)
  const address = ofLog ? kafkaAddress(config, log.url) : kafkaAddress(config, own, setting)
  // A topic that is not there is made as the cluster makes it by itself.
  return { env, address, prefix: '', partitions: 0, replication: kafka.replication, compression: kafka.compression }
}
