import process from 'node:process'
import { testLog } from './kafka.ts'

/** A process that is a member of the group g: acknowledges the first reading, and holds the next until it is killed. */
const [url = '', prefix = ''] = process.argv.slice(2)
const log = testLog(url, { prefix, partitions: 1 })
let first = true
for await (const delivery of log
  .reader({ topic: 'telemetry', group: 'g', start: 'committed', batch: { bytesMax: 1 } })
  .open(new AbortController().signal)) {
  const [record] = delivery.records
  const value = record?.kind === 'readings' ? record.batch.value[0] : undefined
  if (first) delivery.ack()
  process.stdout.write(`${first ? 'acknowledged' : 'holds'} ${value}\n`)
  first = false
}
