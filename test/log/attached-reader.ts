import { parentPort, workerData } from 'node:worker_threads'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { attachEmbeddedLog, type LogHandle } from '../../src/log/embedded/log.ts'

// A thread that reads as the store thread does: tells what it has read after each acknowledgement, until it is told to stop.
const log = attachEmbeddedLog(workerData as LogHandle, nodeEnv(silentLogger))
const stop = new AbortController()
parentPort?.once('message', () => stop.abort())
for await (const { records, ack } of log.reader({ topic: 'telemetry', group: 'store', start: 'committed' }).open(stop.signal)) {
  const values = records.flatMap((record) => (record.kind === 'readings' ? [...record.batch.value.subarray(0, record.batch.rows)] : []))
  ack()
  parentPort?.postMessage(values)
}
await log.close()
parentPort?.postMessage('ended')
