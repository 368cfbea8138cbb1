/**
 * Connections of MQTT 3.1.1 that do nothing, in a process of their own: `node bench/mqtt-idle.ts '{"port":1883,"connections":10000,"atOnce":64}'`.
 * Prints one line of JSON when all are let in, and keeps them until its input ends.
 */
import { once } from 'node:events'
import type net from 'node:net'
import process from 'node:process'
import { connect } from './mqtt-flow.ts'

export interface MqttIdle {
  readonly port: number
  readonly connections: number
  /** How many are being opened at a time. */
  readonly atOnce: number
}

export interface MqttIdleResult {
  readonly connections: number
  readonly seconds: number
  /** Why not all could be opened; absent: they were. */
  readonly failed?: string
}

async function run({ port, connections, atOnce }: MqttIdle): Promise<void> {
  const sockets: net.Socket[] = []
  let next = 0
  let failed: string | undefined
  const began = performance.now()
  const lane = async (): Promise<void> => {
    while (next < connections && failed === undefined) {
      try {
        const socket = await connect(port, `idle-${process.pid}-${next++}`)
        socket.resume()
        sockets.push(socket)
      } catch (thrown) {
        failed = String(thrown)
      }
    }
  }
  await Promise.all(Array.from({ length: atOnce }, lane))
  const result: MqttIdleResult = {
    connections: sockets.length,
    seconds: (performance.now() - began) / 1000,
    ...(failed === undefined ? {} : { failed }),
  }
  process.stdout.write(`${JSON.stringify(result)}\n`)
  process.stdin.resume()
  await once(process.stdin, 'end')
  for (const socket of sockets) socket.destroy()
}

if (import.meta.main) await run(JSON.parse(process.argv[2] ?? '{}') as MqttIdle)
