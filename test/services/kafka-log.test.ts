import { randomUUID } from 'node:crypto'
import process from 'node:process'
import { describe } from 'node:test'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { openKafkaLog, type KafkaLogOptions } from '../../src/log/kafka/log.ts'
import { parseKafkaUrl } from '../../src/log/kafka/options.ts'
import { streamLogContract } from '../contract/stream-log.ts'

const url = process.env['KYMO_TEST_KAFKA_URL']

if (url === undefined) describe('the log on Kafka', { skip: 'KYMO_TEST_KAFKA_URL is not set (npm run test:services)' }, () => undefined)
else {
  for (const partitions of [1, 4]) {
    streamLogContract(`Kafka, partitions: ${partitions}`, async () => {
      const options: KafkaLogOptions = {
        env: nodeEnv(silentLogger),
        address: parseKafkaUrl(url),
        prefix: `kymo-test-${randomUUID().slice(0, 8)}.`,
        partitions,
        replication: 1,
      }
      let log = openKafkaLog(options)
      return {
        log,
        reopen: async () => {
          await log.close()
          log = openKafkaLog(options)
          return log
        },
        close: () => log.close(),
      }
    })
  }
}
