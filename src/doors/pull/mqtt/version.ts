import type { MqttVersion } from './dialect.ts'

/** Which version the next connection speaks. `auto`: 5, and 3.1.1 with a broker that refuses it or does not answer to it. */
export class VersionChoice {
  readonly #auto: boolean
  /** What the broker is known, or expected, to speak. */
  #known: MqttVersion
  #next: MqttVersion
  /** It has refused one version since it last let us in: when it refuses the other as well, asking at once is of no use. */
  #turned = false

  constructor(setting: 'auto' | MqttVersion) {
    this.#auto = setting === 'auto'
    this.#known = this.#next = setting === 'auto' ? '5' : setting
  }

  get next(): MqttVersion {
    return this.#next
  }

  /** The broker let us in. */
  accepted(): void {
    this.#turned = false
    this.#next = this.#known
  }

  /** A connection that spoke `next` has ended. Returns whether the other version is to be tried at once. */
  ended(how: 'unsupported' | 'mute' | undefined): boolean {
    if (!this.#auto) return false
    if (how === 'unsupported') {
      this.#known = this.#next = this.#next === '5' ? '3.1.1' : '5'
      if (this.#turned) return false
      this.#turned = true
      return true
    }
    // Some brokers of 3.1.1 close without a CONNACK; but so does what stands before one that is down, so that is not remembered.
    this.#next = how === 'mute' && this.#next === '5' ? '3.1.1' : this.#known
    return false
  }
}
