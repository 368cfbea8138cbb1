/** What the run knows of one message. */
const State = { unsent: 0, sent: 1, acked: 2, failed: 3 } as const

/** How messages are numbered: message n is the (n div devices)-th of device n mod devices, due at start + n / rate. */
export interface Schedule {
  readonly run: string
  readonly devices: number
  /** Messages a second, over all devices. */
  readonly rate: number
  /** Event time of message 0, epoch microseconds. */
  readonly startUs: number
  readonly messages: number
}

export function timeUsOf(schedule: Schedule, n: number): number {
  return schedule.startUs + Math.round((n * 1e6) / schedule.rate)
}

export function deviceOf(schedule: Schedule, device: number): string {
  return `load-${schedule.run}-${String(device + 1).padStart(4, '0')}`
}

/** The value of message n: what is read back must be what was sent. Two decimals, -10 to 39.99. */
export function temperatureOf(n: number): number {
  return (((n * 7_919) % 5_000) - 1_000) / 100
}

export interface LedgerResult {
  readonly sent: number
  readonly acked: number
  /** Told to have failed, or never answered. */
  readonly errors: number
  /** Messages found when reading back. */
  readonly stored: number
  /** Acknowledged, and not found. */
  readonly lost: number
  /** Rows beyond the first of one message. */
  readonly doubled: number
  /** Found with another value than was sent. */
  readonly wrong: number
  /** Found, though not acknowledged: allowed, since the promise is given after the fact. */
  readonly unconfirmed: number
  /** Rows of these devices that no message of the run explains. */
  readonly foreign: number
}

/** One byte a message for what was promised, one for what was found: 20,000 messages/s for ten minutes are 24 MB. */
export class Ledger {
  readonly #schedule: Schedule
  readonly #state: Uint8Array
  readonly #found: Uint8Array
  readonly #devices = new Map<string, number>()
  #sent = 0
  #acked = 0
  #failed = 0
  #wrong = 0
  #foreign = 0

  constructor(schedule: Schedule) {
    this.#schedule = schedule
    this.#state = new Uint8Array(schedule.messages)
    this.#found = new Uint8Array(schedule.messages)
    for (let d = 0; d < schedule.devices; d++) this.#devices.set(deviceOf(schedule, d), d)
  }

  get sent(): number {
    return this.#sent
  }
  get acked(): number {
    return this.#acked
  }
  get failed(): number {
    return this.#failed
  }

  send(n: number): void {
    if (this.#state[n] !== State.unsent) return
    this.#state[n] = State.sent
    this.#sent++
  }

  /** False: it was settled before, or never sent. */
  ack(n: number): boolean {
    if (this.#state[n] !== State.sent) return false
    this.#state[n] = State.acked
    this.#acked++
    return true
  }

  fail(n: number): void {
    if (this.#state[n] !== State.sent) return
    this.#state[n] = State.failed
    this.#failed++
  }

  /** One row of the answer. */
  found(device: string, timeUs: number, value: number): void {
    const n = this.#messageOf(device, timeUs)
    if (n === undefined) {
      this.#foreign++
      return
    }
    const before = this.#found[n] ?? 0
    if (before < 255) this.#found[n] = before + 1
    if (value !== temperatureOf(n)) this.#wrong++
  }

  /** A second reading back starts from nothing. */
  forgetFound(): void {
    this.#found.fill(0)
    this.#wrong = 0
    this.#foreign = 0
  }

  result(): LedgerResult {
    let stored = 0
    let lost = 0
    let doubled = 0
    let unconfirmed = 0
    for (let n = 0; n < this.#state.length; n++) {
      const found = this.#found[n] ?? 0
      const acked = this.#state[n] === State.acked
      if (found > 0) {
        stored++
        doubled += found - 1
        if (!acked) unconfirmed++
      } else if (acked) lost++
    }
    const errors = this.#sent - this.#acked
    return { sent: this.#sent, acked: this.#acked, errors, stored, lost, doubled, wrong: this.#wrong, unconfirmed, foreign: this.#foreign }
  }

  /** By time, to the microsecond: the nearest number of the schedule that is this device's, and that has exactly this time. */
  #messageOf(device: string, timeUs: number): number | undefined {
    const { devices, rate, startUs, messages } = this.#schedule
    const d = this.#devices.get(device)
    if (d === undefined) return undefined
    const n = Math.round(((timeUs - startUs) * rate) / 1e6)
    const own = Math.round((n - d) / devices) * devices + d
    return own >= 0 && own < messages && timeUsOf(this.#schedule, own) === timeUs ? own : undefined
  }
}
