/** A worker of bench/stalls.ts: one `GET /livez` every 5 ms over one connection until it is told to end, then how long the answers took. */
import net from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { distribution } from './process.ts'

const everyMs = 5
const socket = net.connect(Number(workerData), '127.0.0.1').setNoDelay(true)
let answered = (): void => undefined
socket.on('data', () => answered())
let ended = false
parentPort!.once('message', () => (ended = true))
const samples: number[] = []
while (!ended) {
  const began = performance.now()
  await new Promise<void>((resolve, reject) => {
    answered = resolve
    socket.once('error', reject)
    socket.write('GET /livez HTTP/1.1\r\nHost: kymo\r\n\r\n')
    socket.off('error', reject)
  })
  const took = performance.now() - began
  samples.push(took)
  if (took < everyMs) await delay(everyMs - took)
}
socket.destroy()
parentPort!.postMessage(distribution(samples))
