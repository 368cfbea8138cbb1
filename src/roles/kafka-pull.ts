import type { Config } from '../core/config.ts'
import type { Env } from '../core/env.ts'
import type { IngestGate } from '../core/gate.ts'
import type { Metrics } from '../core/metrics.ts'
import type { SystemStatus } from '../core/services.ts'
import type { KafkaPull } from '../doors/pull/kafka/door.ts'

/** Topics of an outside Kafka whose settings were found good, not yet connected to. */
export interface PreparedKafkaPull {
  open(o: { readonly gate: IngestGate; readonly env: Env; readonly metrics: Metrics }): Promise<KafkaPull>
}

/** Before anything is opened: throws `config_invalid` for settings that are wrong. Undefined: no topics are set. */
export async function prepareKafkaPull(config: Config, env: Env): Promise<PreparedKafkaPull | undefined> {
  const topics = config.kafka.pull.topics.split(',').flatMap((name) => name.trim() || [])
  if (topics.length === 0) return undefined
  const { kafkaDocumentOptions } = await import('../log/kafka/configured.ts')
  const options = kafkaDocumentOptions(env, config, 'kafka.pull.url')
  return {
    async open(parts) {
      const [{ openKafkaPull }, { openKafkaDocuments }] = await Promise.all([
        import('../doors/pull/kafka/door.ts'),
        import('../log/kafka/documents.ts'),
      ])
      const broker = options.address.brokers.map(({ host, port }) => `${host}:${port}`).join(',')
      return openKafkaPull({ ...parts, documents: openKafkaDocuments(options), broker: `kafka://${broker}`, topics, group: config.kafka.pull.group })
    },
  }
}

/** How it is, as a part of the server that is ready without it. */
export function kafkaPullComponent(pull: KafkaPull): SystemStatus['components'][number] {
  const { connected, detail } = pull.status()
  return { name: 'kafka pull', ok: connected, detail, optional: true }
}
