import type { FaultKind } from './faults.ts'
import { faultKinds } from './faults.ts'
import { payloadOf, SimulatedDevice } from './model.ts'

export interface FleetOptions {
  readonly devices: number
  readonly intervalMs: number
  readonly seed: number
  readonly faults: readonly FaultKind[]
  readonly faultsPerHour: number
  /** Before the three-digit number. */
  readonly prefix: string
  /** Takes a message of the device with that index, or says false when it cannot. */
  readonly send: (index: number, deviceId: string, payload: Buffer) => boolean
}

interface Member {
  readonly device: SimulatedDevice
  /** When it sends next: epoch milliseconds on the schedule, not when the timer came. */
  dueMs: number
}

/** The timer's step: devices are spread over the interval, and many share a tick. */
const tickMs = 20

/**
 * Devices that send on a fixed schedule, each at its own moment of the interval. A message carries its scheduled time, so no two
 * of a device are ever the same reading; after a pause of the process what was missed is skipped, as a device that was off would.
 */
export class Fleet {
  sent = 0
  /** Messages that `send` did not take. */
  refused = 0
  readonly #o: FleetOptions
  readonly #members: readonly Member[]
  #timer: NodeJS.Timeout | undefined

  constructor(o: FleetOptions, startMs: number) {
    this.#o = o
    const firstMs = Math.ceil(startMs / 1000) * 1000
    this.#members = Array.from({ length: o.devices }, (_, index) => ({
      device: new SimulatedDevice({
        seed: o.seed,
        index,
        deviceId: `${o.prefix}${String(index + 1).padStart(3, '0')}`,
        faults: o.faults,
        faultsPerHour: o.faultsPerHour,
      }),
      dueMs:
        firstMs +
        Math.floor((index * Math.min(o.intervalMs, 1_000)) / o.devices) +
        (o.intervalMs > 1_000 ? (index * 7_919) % Math.floor(o.intervalMs - 1_000) : 0),
    }))
  }

  start(): void {
    this.#timer = setInterval(() => this.tick(Date.now()), tickMs)
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** Faults that have begun, over all devices. */
  faults(): Record<FaultKind, number> {
    const sum: Record<FaultKind, number> = { spike: 0, dropout: 0, stuck: 0, drift: 0 }
    for (const { device } of this.#members) for (const kind of faultKinds) sum[kind] += device.faults[kind]
    return sum
  }

  /** Sends whatever is due at `nowMs`. */
  tick(nowMs: number): void {
    const { intervalMs, send } = this.#o
    const wholeSeconds = intervalMs >= 1_000
    for (let index = 0; index < this.#members.length; index++) {
      const member = this.#members[index]
      if (member === undefined || member.dueMs > nowMs) continue
      const missed = Math.floor((nowMs - member.dueMs) / intervalMs)
      const dueMs = member.dueMs + missed * intervalMs
      member.dueMs = dueMs + intervalMs
      const sample = member.device.sample(dueMs)
      if (sample === undefined) continue
      if (send(index, sample.deviceId, Buffer.from(payloadOf(sample, wholeSeconds)))) this.sent++
      else this.refused++
    }
  }
}
