import type { Source } from '../core/ports.ts'
import type { Delivery } from '../core/record.ts'

/**
 * A source whose deliveries count as acknowledged to the pump, and to the source behind it only once `settle` says that what
 * was made of them need not be made again.
 */
export class HeldSource implements Source {
  readonly #source: Source
  #held: Delivery[] = []
  #settled = -1n

  constructor(source: Source) {
    this.#source = source
  }

  async *open(signal: AbortSignal): AsyncGenerator<Delivery, void, void> {
    this.#held = []
    for await (const delivery of this.#source.open(signal)) {
      yield {
        records: delivery.records,
        ...(delivery.span === undefined ? {} : { span: delivery.span }),
        ack: () => {
          if (delivery.span === undefined || delivery.span.next <= this.#settled) delivery.ack()
          else this.#held.push(delivery)
        },
        nack: (cause) => delivery.nack(cause),
      }
    }
  }

  /** Acknowledges what lies below `next`. */
  settle(next: bigint): void {
    this.#settled = next
    const held = this.#held
    let n = 0
    while (n < held.length && held[n]!.span!.next <= next) held[n++]!.ack()
    this.#held = held.slice(n)
  }

  close(): Promise<void> {
    return this.#source.close()
  }
}
