import { enginesOf } from '../../core/config-engines.ts'
import type { Config } from '../../core/config.ts'
import { ageText } from '../../core/duration.ts'
import type { Env } from '../../core/env.ts'
import { nodeEnv, silentLogger } from '../../core/env/node-env.ts'
import { asKymoError } from '../../core/errors.ts'
import type { PartitionLag } from '../../core/ports.ts'
import { Topic } from '../../core/record.ts'
import type { TopicSetup } from '../../log/kafka/cluster.ts'
import { kafkaLogOptions } from '../../log/kafka/configured.ts'
import { openKafkaLog, type KafkaStreamLog } from '../../log/kafka/log.ts'
import { registryGroup } from '../../roles/live.ts'
import { storeGroup } from '../../roles/store.ts'
import { fail, ok, warn, type Finding } from './finding.ts'

const check = 'kafka'
/** A machine may be lost without a word of warning, while another is being mended. */
const copies = 3
const inSync = 2
/** A share of the retention from which a word is due. */
const retentionNear = 0.5

/** The Kafka of log.url: whether it answers and lets us in, keeps what it acknowledges, and still has what consumers have not read. Changes nothing. */
export async function checkKafka(config: Config, env: Env = nodeEnv(silentLogger)): Promise<Finding[]> {
  const { log: engine } = enginesOf(config)
  if (engine.kind !== 'kafka') return []
  let log: KafkaStreamLog | undefined
  try {
    log = openKafkaLog(kafkaLogOptions(env, config, engine.url))
    await log.probe()
    const telemetry = await log.inspect(Topic.telemetry)
    if (telemetry === undefined)
      return [ok(check, 'answers; no topic of Kymo is there yet, the first start makes them'), ...newTopics(config.kafka.replication)]
    const findings = setupFindings(telemetry)
    for (const group of [storeGroup, registryGroup])
      findings.push(...lagFindings(group, telemetry.retentionMs, await log.lag(Topic.telemetry, group), env.clock.nowUs()))
    return findings
  } catch (thrown) {
    const { code, message } = asKymoError(thrown)
    const fix =
      code === 'log_denied'
        ? 'Look at the user, its password or token in log.url and kafka.*, and at the ACLs of the cluster.'
        : 'Look at the address, at kafka.ca_file and at the network. A server waits for the cluster, and takes nothing meanwhile.'
    return [fail(check, code, message, fix)]
  } finally {
    await log?.close()
  }
}

function newTopics(replication: number): Finding[] {
  if (replication >= copies) return []
  const how = replication === 0 ? "the cluster's default.replication.factor decides" : `they will have ${replication}`
  return [
    warn(check, `topics that Kymo makes should have ${copies} copies, and ${how}`, `Set kafka.replication to ${copies} before the first start.`),
  ]
}

/** Kafka's acks=all is no fsync: that what is acknowledged survives rests on copies. */
export function setupFindings(topic: TopicSetup): Finding[] {
  const { name, brokers, partitions, replicas, minInSync } = topic
  const found = [ok(check, `${brokers} broker${brokers === 1 ? '' : 's'}; ${name} has ${partitions} partitions, ${replicas} of each`)]
  if (replicas < copies)
    found.push(
      warn(
        check,
        `${name} has ${replicas} ${replicas === 1 ? 'copy' : 'copies'} of each partition: what is acknowledged may be lost with ${replicas === 1 ? 'one machine' : 'two'}`,
        `Give it ${copies} (kafka-reassign-partitions.sh), and set kafka.replication to ${copies} for topics to come.`,
      ),
    )
  if (minInSync < inSync)
    found.push(
      warn(
        check,
        `${name} acknowledges what ${minInSync} broker has: it may be lost with that one`,
        `kafka-configs.sh --alter --entity-type topics --entity-name ${name} --add-config min.insync.replicas=${inSync}`,
      ),
    )
  if (topic.inSync < Math.min(replicas, minInSync))
    found.push(
      fail(
        check,
        'log_unavailable',
        `${name} has ${topic.inSync} of ${replicas} copies in sync: it takes no writes`,
        'Bring the brokers back that are missing.',
      ),
    )
  return found
}

/** Kafka deletes by age, read or not. */
export function lagFindings(group: string, retentionMs: number, lag: readonly PartitionLag[], nowUs: number): Finding[] {
  const behind = lag.reduce((sum, one) => sum + Number(one.end - one.committed), 0)
  const oldestUs = Math.min(...lag.map(({ oldestUs: us }) => us ?? Number.POSITIVE_INFINITY))
  const lost = lag.find(({ committed, earliest }) => committed < earliest)
  if (lost !== undefined)
    return [
      fail(
        check,
        'log_corrupt',
        `the group ${group} has read partition ${lost.partition} to ${lost.committed}, and Kafka has deleted up to ${lost.earliest}`,
        'What was deleted is lost to it. Raise retention.ms of the topic, and let the consumer keep up.',
      ),
    ]
  if (retentionMs < 0 || !Number.isFinite(oldestUs)) return [ok(check, `group ${group}: ${behind} records behind`)]
  const share = (nowUs - oldestUs) / 1000 / retentionMs
  const detail = `the group ${group} is ${behind} records behind, the oldest ${ageOf((nowUs - oldestUs) / 1e6)} old; Kafka keeps ${ageText(retentionMs * 1000)}`
  if (share < retentionNear) return [ok(check, detail)]
  return [warn(check, detail, 'See to it that its consumer keeps up, or raise retention.ms of the topic: what Kafka deletes first is lost to it.')]
}

function ageOf(seconds: number): string {
  return seconds < 7200 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 3600)} h`
}
