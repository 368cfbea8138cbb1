import fs from 'node:fs'
import path from 'node:path'
import { accepts, freePorts, halt, launch, program, run, untilReady, type Started } from './process.ts'
import type { Service } from './service.ts'

/** Broker and controller in one (KRaft), of one node: enough for the protocol, not for losing a machine. */
function properties(dir: string, port: number, controllerPort: number): string {
  return [
    'process.roles=broker,controller',
    'node.id=1',
    `controller.quorum.voters=1@127.0.0.1:${controllerPort}`,
    `listeners=PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
    `advertised.listeners=PLAINTEXT://127.0.0.1:${port}`,
    'controller.listener.names=CONTROLLER',
    'listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT',
    `log.dirs=${path.join(dir, 'data')}`,
    'offsets.topic.replication.factor=1',
    'offsets.topic.num.partitions=4',
    'transaction.state.log.replication.factor=1',
    'transaction.state.log.min.isr=1',
    'group.initial.rebalance.delay.ms=0',
    'auto.create.topics.enable=false',
    '',
  ].join('\n')
}

function java(libs: string, main: string, ...args: string[]): string[] {
  return ['-Xmx512m', '-Xms128m', '-XX:+UseSerialGC', '-cp', path.join(libs, '*'), main, ...args]
}

/** A real Kafka broker from the project's own published artifacts (kafka-pom.xml), for which Java 17 and Maven are needed. */
export const kafka: Service = {
  name: 'kafka',
  missing() {
    if (program('java') === undefined) return 'java (Debian: openjdk-17-jre-headless)'
    return program('mvn') === undefined ? 'mvn (Debian: maven)' : undefined
  },
  async start(dir) {
    const libs = path.join(dir, 'libs')
    const whole = path.join(libs, '.whole')
    if (!fs.existsSync(whole)) {
      const pom = new URL('kafka-pom.xml', import.meta.url).pathname
      run('mvn', ['-q', '-B', '-f', pom, 'dependency:copy-dependencies', `-DoutputDirectory=${libs}`])
      fs.writeFileSync(whole, '')
    }
    const [port = 0, controllerPort = 0] = await freePorts(2)
    const config = path.join(dir, 'server.properties')
    fs.writeFileSync(config, properties(dir, port, controllerPort))
    const logFile = path.join(dir, 'kafka.log')
    const formatted = fs.existsSync(path.join(dir, 'data', 'meta.properties'))
    if (!formatted) run('java', java(libs, 'kafka.tools.StorageTool', 'format', '-t', 'kymo-services-00000000', '-c', config), { cwd: dir })
    const broker = await launch({ command: 'java', args: java(libs, 'kafka.Kafka', config), cwd: dir, logFile })
    await untilReady('kafka', broker, logFile, 60_000, () => accepts(port))
    return { processes: { broker }, env: { KYMO_TEST_KAFKA_URL: `kafka://127.0.0.1:${port}` } }
  },
  async stop(processes: Readonly<Record<string, Started>>) {
    for (const one of Object.values(processes)) await halt(one, 'SIGTERM', 15_000)
  },
}
