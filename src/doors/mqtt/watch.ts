import type { Timer } from '../../core/env.ts'
import type { CloseReason } from './counters.ts'
import type { MqttHost } from './host.ts'
import type { PacketWriter } from './writer.ts'

/** A partial packet that grew by less than this does not count as a sign of life. */
export const progressBytesMin = 1024

/** What is watched. */
export interface Watched {
  /** Whether the client is read. */
  readonly reads: boolean
  /** Bytes of packets that are not complete. */
  readonly pendingBytes: number
  end(reason: CloseReason, detail: string): void
}

/** The time limits of one connection: for CONNECT, keep-alive, packets that stay incomplete, a client that does not read. */
export class Watch {
  readonly #host: MqttHost
  readonly #writer: PacketWriter
  readonly #watched: Watched
  #progressBytes = 0
  #keepAliveMs = 0
  #aliveMs: number
  #timer: Timer
  #writeTimer: Timer | undefined

  constructor(host: MqttHost, writer: PacketWriter, watched: Watched) {
    this.#host = host
    this.#writer = writer
    this.#watched = watched
    this.#aliveMs = host.clock.monotonicMs()
    this.#timer = host.clock.after(host.limits.connectTimeoutMs, () => watched.end('connect_timeout', 'No CONNECT came.'))
  }

  get keepAliveS(): number {
    return this.#keepAliveMs / 1500
  }

  /** CONNECT came; 0: no keep-alive. */
  connected(keepAliveS: number): void {
    this.#timer.cancel()
    this.#keepAliveMs = keepAliveS * 1500
    this.#timer = this.#host.clock.after(this.#checkMs(), () => this.#check())
  }

  /** Bytes came, and with them whole packets or not. */
  progress(packet: boolean, bytes: number): void {
    this.#progressBytes += bytes
    if (!packet && this.#progressBytes < progressBytesMin) return
    this.#progressBytes = 0
    this.alive()
  }

  alive(): void {
    this.#aliveMs = this.#host.clock.monotonicMs()
  }

  /** Much waits for the client: it must take some of it in time. */
  expectDrain(): void {
    if (this.#writeTimer !== undefined) return
    const before = this.#writer.waitingBytes
    this.#writeTimer = this.#host.clock.after(this.#host.limits.writeTimeoutMs, () => {
      this.#writeTimer = undefined
      if (this.#writer.waitingBytes >= before) this.#watched.end('write_timeout', 'The client does not read.')
      else this.expectDrain()
    })
  }

  drained(): void {
    this.#writeTimer?.cancel()
    this.#writeTimer = undefined
  }

  stop(): void {
    this.#timer.cancel()
    this.#writeTimer?.cancel()
  }

  #checkMs(): number {
    const { packetTimeoutMs } = this.#host.limits
    return this.#keepAliveMs === 0 ? packetTimeoutMs : Math.min(this.#keepAliveMs, packetTimeoutMs)
  }

  /** Keep-alive (3.1.1 [MQTT-3.1.2-24], 5 [MQTT-3.1.2-22]), and an end to packets that never become complete. */
  #check(): void {
    const { limits, clock } = this.#host
    const idleMs = clock.monotonicMs() - this.#aliveMs
    const { reads, pendingBytes } = this.#watched
    let nextMs = this.#checkMs()
    // While it is us who do not read, silence says nothing.
    if (reads) {
      if (this.#keepAliveMs > 0 && idleMs >= this.#keepAliveMs) {
        return this.#watched.end('keep_alive', 'Nothing came within 1.5 times the keep-alive.')
      }
      if (pendingBytes > 0 && idleMs >= limits.packetTimeoutMs) return this.#watched.end('packet_timeout', 'A packet stayed incomplete.')
      if (this.#keepAliveMs > 0) nextMs = Math.min(nextMs, this.#keepAliveMs - idleMs)
      if (pendingBytes > 0) nextMs = Math.min(nextMs, limits.packetTimeoutMs - idleMs)
    }
    this.#timer = clock.after(Math.max(1, nextMs), () => this.#check())
  }
}
