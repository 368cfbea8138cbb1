import { headWithPacketId, withPacketId } from '../../wire/mqtt/encode.ts'
import type { EncodedPublish } from '../../wire/mqtt/encode.ts'
import { Fifo } from './fifo.ts'
import type { MqttHost } from './host.ts'
import type { Outgoing, Subscriber } from './message.ts'
import type { PacketWriter } from './writer.ts'

/** Up to here a QoS 1 packet is copied to get its own packet id; above, only its head is, and the payload stays shared. */
const copyBytesMax = 8 * 1024
/** With the budget of all clients exceeded, a client with more than this waiting gets no more. */
const fairBytes = 16 * 1024
const packetIdMax = 65_535

/** One client's deliveries. A client that does not keep up loses its own messages and slows nobody else. */
export class Outbox implements Subscriber {
  delivered = 0
  readonly #host: MqttHost
  readonly #writer: PacketWriter
  readonly #queue = new Fifo<EncodedPublish>()
  #queueBytes = 0
  /** Sent at QoS 1 and not acknowledged, by packet id. */
  #inflight: Map<number, EncodedPublish> | undefined
  #inflightBytes = 0
  #lastId = 0
  readonly #congested: () => void

  /** `congested` is called when a delivery finds too much waiting for the client; `drained` is expected later. */
  constructor(host: MqttHost, writer: PacketWriter, congested: () => void) {
    this.#host = host
    this.#writer = writer
    this.#congested = congested
  }

  get queued(): number {
    return this.#queue.length
  }

  deliver(message: Outgoing, qos: 0 | 1): void {
    if (qos === 0) {
      if (this.#full()) {
        this.#host.counters.dropped.slow_subscriber.value++
        return
      }
      this.#host.counters.sent[0].value++
      this.#writer.send(message.qos0!)
      return
    }
    this.#enqueue(message.qos1!)
    this.#sendQueued()
  }

  /** PUBACK: makes room for the next. An id that is not in flight is ignored. */
  acknowledged(packetId: number): void {
    const publish = this.#inflight?.get(packetId)
    if (publish === undefined) return
    this.#inflight!.delete(packetId)
    this.#inflightBytes -= publish.bytes.length
    this.#host.sending.used -= publish.bytes.length
    this.#sendQueued()
  }

  /** The network took all that waited. */
  drained(): void {
    this.#sendQueued()
  }

  close(): void {
    this.#host.sending.used -= this.#queueBytes + this.#inflightBytes
    this.#queueBytes = 0
    this.#inflightBytes = 0
    this.#queue.clear()
    this.#inflight = undefined
  }

  #full(): boolean {
    const { limits, sending } = this.#host
    const waiting = this.#writer.waitingBytes
    const full = waiting >= limits.socketBufferBytesMax || (waiting >= fairBytes && sending.exceeded)
    if (full) this.#congested()
    return full
  }

  #enqueue(publish: EncodedPublish): void {
    const { limits, sending } = this.#host
    this.#queue.push(publish)
    this.#queueBytes += publish.bytes.length
    sending.used += publish.bytes.length
    while (this.#queue.length > limits.sendQueueMax || this.#queueBytes > limits.sendQueueBytesMax || (this.#queue.length > 1 && sending.exceeded)) {
      sending.used -= this.#take()!.bytes.length
      this.#host.counters.dropped.queue_full.value++
    }
  }

  #take(): EncodedPublish | undefined {
    const publish = this.#queue.shift()
    if (publish !== undefined) this.#queueBytes -= publish.bytes.length
    return publish
  }

  #sendQueued(): void {
    const { limits } = this.#host
    while (this.#queue.length > 0) {
      const inflight = (this.#inflight ??= new Map())
      const size = this.#queue.peek()!.bytes.length
      if (inflight.size >= limits.sendInflightMax) return
      if (inflight.size > 0 && this.#inflightBytes + size > limits.sendQueueBytesMax) return
      if (this.#full()) return
      const publish = this.#take()!
      const packetId = this.#nextId(inflight)
      inflight.set(packetId, publish)
      this.#inflightBytes += size
      this.#host.counters.sent[1].value++
      if (size <= copyBytesMax) {
        this.#writer.send(withPacketId(publish, packetId, false))
      } else {
        this.#writer.send(headWithPacketId(publish, packetId, false))
        this.#writer.send(publish.bytes.subarray(publish.idAt + 2))
      }
    }
  }

  /** The next packet id that is not in use [MQTT-2.3.1-4]. */
  #nextId(inflight: ReadonlyMap<number, EncodedPublish>): number {
    do {
      this.#lastId = this.#lastId === packetIdMax ? 1 : this.#lastId + 1
    } while (inflight.has(this.#lastId))
    return this.#lastId
  }
}
