/**
 * What the machine itself takes beside the clients of bench/hostile.ts. As a process: a server that does with each line what an acknowledgement needs and no
 * more, a hundred bytes written and synced on the server's file system. As a worker: a client of it that sends a line every 20 ms, as the bystander does.
 */
import { once } from 'node:events'
import { open } from 'node:fs/promises'
import net from 'node:net'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import { Phases } from '../e2e/hostile-phases.ts'

const everyMs = 20

async function serve(filename: string): Promise<void> {
  const file = await open(filename, 'w')
  const server = net.createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => undefined)
    socket.on('data', (bytes) => {
      void (async () => {
        await file.write('x'.repeat(100), 0)
        await file.datasync()
        socket.write(bytes)
      })()
    })
  })
  server.listen(0, '127.0.0.1', () => process.send?.(server.address()))
  process.on('disconnect', () => process.exit())
}

async function ask(port: number): Promise<void> {
  const phases = new Phases('')
  let ended = false
  parentPort!.on('message', (next: string) => {
    phases.next(next)
    if (next === 'end') ended = true
  })
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true })
  while (!ended) {
    const began = performance.now()
    socket.write('a line that is about as long as a reading\n')
    await once(socket, 'data')
    const took = performance.now() - began
    phases.answered(took)
    if (took < everyMs) await delay(everyMs - took)
  }
  socket.destroy()
  parentPort!.postMessage({ phases: phases.closed })
  parentPort!.close()
}

if (!isMainThread) await ask(Number(workerData))
else if (process.argv[2] !== undefined && process.send !== undefined) await serve(process.argv[2])
