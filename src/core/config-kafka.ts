import type { FieldError } from './errors.ts'
import { age, choice, text, whole, type ValuesOf } from './setting.ts'

/** `kafka`: how the Kafka of `log.url` is spoken to, and what Kymo makes there. */
export const kafkaSettings = {
  prefix: text({ description: "Before the names of Kymo's own topics and groups: several deployments may share a cluster.", default: 'kymo.' }),
  partitions: whole({
    description:
      'Partitions of the telemetry topic, when Kymo makes it: as many store processes can share the work. There is no way back to fewer, and more later ' +
      'puts devices elsewhere. Its other topics have one.',
    default: 8,
    minimum: 1,
    maximum: 1024,
  }),
  replication: whole({
    description:
      'Copies of topics that Kymo makes; with 3 or more, two must have a record before it is acknowledged (min.insync.replicas). 0: what the cluster does by itself.',
    default: 0,
    minimum: 0,
    maximum: 32,
  }),
  retention: age({
    description:
      'How long the cluster keeps what is in topics that Kymo makes. Kafka deletes it then, read or not: kymo doctor compares it with how far consumers are behind.',
    default: '30d',
  }),
  linger_ms: whole({
    description: 'How long a produce request waits for more to go with it. Ingest gathers by itself: this is for many writers.',
    default: 0,
    minimum: 0,
    maximum: 1000,
    unit: 'ms',
  }),
  batch_bytes: whole({ description: 'With so much it goes at once.', default: 1_048_576, minimum: 1024, maximum: 4_194_304, unit: 'bytes' }),
  compression: choice(['zstd', 'lz4', 'gzip', 'none'], { description: 'Of what is written.', default: 'zstd' }),
  sasl: choice(['', 'plain', 'scram-sha-256', 'scram-sha-512', 'oauthbearer'], {
    description: 'How we show who we are, where log.url does not say it (?sasl=). Empty: plain with a user name, else not at all.',
    default: '',
  }),
  username: text({ description: 'User name, in place of one in log.url.', default: '' }),
  password: text({ description: 'Its password, in place of one in log.url.', default: '', secret: true }),
  token: text({ description: 'Token of oauthbearer.', default: '', secret: true }),
  token_file: text({ description: 'A file that holds it, read anew at each authentication: for tokens that are renewed.', default: '' }),
  ca_file: text({
    description: "Certificates in PEM that vouch for the brokers'. Empty: those that Node brings along. TLS is spoken with kafkas:// or ?tls=true.",
    default: '',
  }),
  cert_file: text({ description: 'Our own certificate in PEM, for brokers that ask for one.', default: '' }),
  key_file: text({ description: 'Its private key in PEM.', default: '' }),
  pull: {
    url: text({ description: 'An outside Kafka whose messages are taken. Empty: that of log.url.', default: '' }),
    topics: text({
      description: 'Its topics, separated by commas: one JSON document a message, or an array of them, as on telemetry topics of MQTT. Empty: none.',
      default: '',
    }),
    group: text({
      description: 'The consumer group that says how far they are taken; processes of one group divide the partitions.',
      default: 'kymo',
    }),
  },
  publish: {
    url: text({ description: 'An outside Kafka that readings and dead letters are written to. Empty: that of log.url.', default: '' }),
    topic: text({
      description:
        'Its topic that each reading goes to as a JSON document: device_id, ts, temperature_c, humidity and the other metrics. Empty: none.',
      default: '',
    }),
  },
  dead_letters: {
    topic: text({ description: 'Its topic that each dead letter goes to, with reason and timestamp. Empty: none.', default: '' }),
  },
}

/** What the settings must be together. Empty: nothing is wrong. */
export function kafkaErrors({ kafka: { pull, publish } }: { readonly kafka: ValuesOf<typeof kafkaSettings> }): FieldError[] {
  const taken = pull.topics.split(',').map((name) => name.trim())
  if (publish.topic === '' || publish.url !== pull.url || !taken.includes(publish.topic)) return []
  const detail = `${publish.topic} is one of kafka.pull.topics too: each of its documents would be written there once more. Publish to another topic.`
  return [{ pointer: 'kafka.publish.topic', detail }]
}
