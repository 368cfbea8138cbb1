/** One QoS 1 subscriber that acknowledges whole chunks at once, so that the broker is what is measured. Prints `ready`, counts until killed. */
import { once } from 'node:events'
import net from 'node:net'
import process from 'node:process'

const [port, topic] = [Number(process.argv[2]), process.argv[3] ?? 'portfolio/telemetry']
const socket = net.connect({ host: '127.0.0.1', port, noDelay: true })
await once(socket, 'connect')
// The broker may be stopped before this process is.
socket.on('error', () => process.exit(0))
const id = `bench-subscriber-${process.pid}`
const body = Buffer.from(`\0\x04MQTT\x04\x02\0\0\0${String.fromCharCode(id.length)}${id}`, 'latin1')
socket.write(Buffer.concat([Buffer.from([0x10, body.length]), body]))
await once(socket, 'data')
const filter = Buffer.from(`\0\x01\0${String.fromCharCode(topic.length)}${topic}\x01`, 'latin1')
socket.write(Buffer.concat([Buffer.from([0x82, filter.length]), filter]))
await once(socket, 'data')

let received = 0
let rest = Buffer.alloc(0)
socket.on('data', (chunk) => {
  let data = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
  const acks: Buffer[] = []
  for (;;) {
    let length = 0
    let at = 1
    for (let shift = 0; at < data.length && at <= 4; at++, shift += 7) {
      length |= (data[at]! & 127) << shift
      if (data[at]! < 128) break
    }
    if (at >= data.length || data.length < at + 1 + length) break
    if (data[0]! >> 4 === 3) {
      received++
      const end = at + 1 + 2 + data.readUInt16BE(at + 1)
      if ((data[0]! & 6) === 2) acks.push(Buffer.from([0x40, 2, data[end]!, data[end + 1]!]))
    }
    data = data.subarray(at + 1 + length)
  }
  rest = Buffer.from(data)
  if (acks.length > 0) socket.write(Buffer.concat(acks))
})
process.on('SIGTERM', () => {
  process.stdout.write(`${JSON.stringify({ received })}\n`)
  process.exit(0)
})
process.stdout.write('ready\n')
