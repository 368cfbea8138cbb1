/** Which topics a client is sent by a number (MQTT 5, 3.3.2.3.4). The first topics get one; when all are given out, one that comes twice in a row takes the oldest. */
export class OutboundAliases {
  readonly #max: number
  readonly #aliases = new Map<string, number>()
  #candidate = ''

  constructor(max: number) {
    this.#max = max
  }

  /** The alias that the client knows for the topic; 0: it knows none. */
  known(topic: string): number {
    return this.#aliases.get(topic) ?? 0
  }

  /** An alias to tell the client together with the topic, which `known` does not have; 0: none. */
  assign(topic: string): number {
    let alias = this.#aliases.size + 1
    if (alias > this.#max) {
      if (topic !== this.#candidate) {
        this.#candidate = topic
        return 0
      }
      const [oldest] = this.#aliases
      if (oldest === undefined) return 0
      this.#aliases.delete(oldest[0])
      alias = oldest[1]
    }
    this.#aliases.set(topic, alias)
    return alias
  }
}
