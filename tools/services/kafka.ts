import fs from 'node:fs'
import path from 'node:path'
import { kafkaBroker, kafkaUsers } from './kafka-broker.ts'
import { halt, program, run } from './process.ts'
import type { Service } from './service.ts'

/** A real Kafka broker from the project's own published artifacts (kafka-pom.xml), for which Java 17 and Maven are needed. */
export const kafka: Service = {
  name: 'kafka',
  missing() {
    if (program('java') === undefined) return 'java (Debian: default-jre-headless)'
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
    const one = await kafkaBroker({ dir, libs })
    const broker = await one.start()
    const { ports, ca, client } = one
    const user = `kymo:${kafkaUsers.kymo}`
    return {
      processes: { broker },
      env: {
        KYMO_TEST_KAFKA_URL: `kafka://127.0.0.1:${ports.plain}`,
        KYMO_TEST_KAFKA_TLS_URL: `kafkas://localhost:${ports.tls}`,
        KYMO_TEST_KAFKA_SASL_URL: `kafka://${user}@127.0.0.1:${ports.sasl}`,
        KYMO_TEST_KAFKA_SASL_TLS_URL: `kafkas://${user}@localhost:${ports.saslTls}`,
        KYMO_TEST_KAFKA_CA: ca,
        KYMO_TEST_KAFKA_CERT: client.cert,
        KYMO_TEST_KAFKA_KEY: client.key,
        KYMO_TEST_KAFKA_LIBS: libs,
      },
    }
  },
  async stop(processes) {
    for (const one of Object.values(processes)) await halt(one, 'SIGTERM', 15_000)
  },
}
