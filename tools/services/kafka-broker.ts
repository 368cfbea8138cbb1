import fs from 'node:fs'
import path from 'node:path'
import { Certificates } from '../../test/support/certificates.ts'
import { accepts, freePorts, halt, launch, run, untilReady, type Started } from './process.ts'

/** Users of the listeners with SASL, by every mechanism. `guest` may do nothing. */
export const kafkaUsers = { kymo: 'kymo-password', guest: 'guest-password' } as const

export interface KafkaBroker {
  /** Of the listeners: what is spoken there, and who may come. */
  readonly ports: { readonly plain: number; readonly tls: number; readonly sasl: number; readonly saslTls: number }
  /** Vouches for the broker's certificate; and a certificate that it takes from clients. */
  readonly ca: string
  readonly client: { readonly cert: string; readonly key: string }
  /** Starts it, and again after it was ended, with the same data and ports; resolves when it takes connections. */
  start(): Promise<Started>
}

export interface BrokerOptions {
  /** Everything of it is below. */
  readonly dir: string
  /** The broker's program: what kafka-pom.xml names. */
  readonly libs: string
  /** More lines of server.properties, which win. */
  readonly settings?: readonly string[]
  /** Where clients are sent that come without TLS and SASL, in place of the broker itself: a proxy's port. */
  readonly advertised?: number
}

/** Java on a busy machine: three seconds on an idle one. */
const startMs = 120_000
const mechanisms = ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512', 'OAUTHBEARER'] as const

function jaas(listener: string): string[] {
  const modules = 'org.apache.kafka.common.security'
  const users = Object.entries(kafkaUsers).map(([name, password]) => `user_${name}="${password}"`)
  const scram = `${modules}.scram.ScramLoginModule required;`
  const of = (mechanism: string, text: string): string => `listener.name.${listener}.${mechanism}.sasl.jaas.config=${text}`
  return [
    of('plain', `${modules}.plain.PlainLoginModule required ${users.join(' ')};`),
    of('scram-sha-256', scram),
    of('scram-sha-512', scram),
    // Takes tokens that nobody has signed (RFC 7515, section 6): the exchange is what is tested.
    of('oauthbearer', `${modules}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="kymo";`),
  ]
}

/** Broker and controller in one (KRaft), of one node: enough for the protocol, not for losing a machine. */
function properties({ dir, settings = [], advertised }: BrokerOptions, ports: KafkaBroker['ports'], controllerPort: number): string {
  const listeners = [
    ['PLAINTEXT', ports.plain, 'PLAINTEXT'],
    ['TLS', ports.tls, 'SSL'],
    ['SASL', ports.sasl, 'SASL_PLAINTEXT'],
    ['SASLTLS', ports.saslTls, 'SASL_SSL'],
  ] as const
  const urls = listeners.map(([name, port]) => `${name}://127.0.0.1:${port}`)
  // A name for those with certificates, as brokers have.
  const told = listeners.map(([name, port, protocol]) =>
    name === 'PLAINTEXT' ? `${name}://127.0.0.1:${advertised ?? port}` : `${name}://${protocol.endsWith('SSL') ? 'localhost' : '127.0.0.1'}:${port}`,
  )
  const protocols = listeners.map(([name, , protocol]) => `${name}:${protocol}`)
  return [
    'process.roles=broker,controller',
    'node.id=1',
    `controller.quorum.voters=1@127.0.0.1:${controllerPort}`,
    `listeners=${urls.join(',')},CONTROLLER://127.0.0.1:${controllerPort}`,
    `advertised.listeners=${told.join(',')}`,
    'controller.listener.names=CONTROLLER',
    'inter.broker.listener.name=PLAINTEXT',
    `listener.security.protocol.map=CONTROLLER:PLAINTEXT,${protocols.join(',')}`,
    ...['tls', 'sasltls'].flatMap((name) => [
      `listener.name.${name}.ssl.keystore.type=PEM`,
      `listener.name.${name}.ssl.keystore.location=${path.join(dir, 'broker.pem')}`,
      `listener.name.${name}.ssl.truststore.type=PEM`,
      `listener.name.${name}.ssl.truststore.location=${path.join(dir, 'ca.pem')}`,
      `listener.name.${name}.ssl.client.auth=requested`,
    ]),
    ...['sasl', 'sasltls'].flatMap((name) => [`listener.name.${name}.sasl.enabled.mechanisms=${mechanisms.join(',')}`, ...jaas(name)]),
    // Who comes without credentials, or as kymo, may do everything; the others nothing.
    'authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer',
    'super.users=User:ANONYMOUS;User:kymo;User:CN=client',
    `log.dirs=${path.join(dir, 'data-2')}`,
    'offsets.topic.replication.factor=1',
    'offsets.topic.num.partitions=4',
    'transaction.state.log.replication.factor=1',
    'transaction.state.log.min.isr=1',
    'group.initial.rebalance.delay.ms=0',
    'auto.create.topics.enable=false',
    ...settings,
    '',
  ].join('\n')
}

function java(libs: string, main: string, ...args: string[]): string[] {
  return ['-Xmx512m', '-Xms128m', '-XX:+UseSerialGC', '-cp', path.join(libs, '*'), main, ...args]
}

/** Made anew at each start: they are valid for a month. */
function certificates(dir: string): Pick<KafkaBroker, 'ca' | 'client'> {
  const made = new Certificates()
  const broker = made.pair('broker')
  const client = made.pair('client')
  const place = (name: string, ...files: readonly string[]): string => {
    const file = path.join(dir, name)
    fs.writeFileSync(file, files.map((one) => fs.readFileSync(one, 'utf8')).join(''))
    return file
  }
  place('broker.pem', broker.key, broker.cert)
  const placed = { ca: place('ca.pem', made.ca), client: { cert: place('client.pem', client.cert), key: place('client.key', client.key) } }
  made.remove()
  return placed
}

/** A real broker with listeners of every kind, on free ports of loopback. */
export async function kafkaBroker(o: BrokerOptions): Promise<KafkaBroker> {
  const { dir, libs } = o
  const [plain = 0, tls = 0, sasl = 0, saslTls = 0, controllerPort = 0] = await freePorts(5)
  const ports = { plain, tls, sasl, saslTls }
  const config = path.join(dir, 'server.properties')
  fs.writeFileSync(config, properties(o, ports, controllerPort))
  const logFile = path.join(dir, 'kafka.log')
  return {
    ports,
    ...certificates(dir),
    async start() {
      const formatted = fs.existsSync(path.join(dir, 'data-2', 'meta.properties'))
      const scram = Object.entries(kafkaUsers).flatMap(([name, password]) =>
        ['256', '512'].flatMap((bits) => ['--add-scram', `SCRAM-SHA-${bits}=[name=${name},password=${password}]`]),
      )
      if (!formatted)
        run('java', java(libs, 'kafka.tools.StorageTool', 'format', '-t', 'kymo-services-00000000', '-c', config, ...scram), { cwd: dir })
      const broker = await launch({ command: 'java', args: java(libs, 'kafka.Kafka', config), cwd: dir, logFile })
      try {
        await untilReady('kafka', broker, logFile, startMs, async () => (await accepts(plain)) && (await accepts(saslTls)))
      } catch (thrown) {
        await halt(broker, 'SIGKILL', 5_000)
        throw thrown
      }
      return broker
    },
  }
}
