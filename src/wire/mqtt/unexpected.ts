import type { ClientSink } from './packets.ts'

/** A client's sink for whom every packet is unexpected; what is expected is put over it. `tell` is called for each packet. */
export function unexpectedByClient(tell: () => void): ClientSink {
  return {
    connack: tell,
    suback: tell,
    unsuback: tell,
    pingresp: tell,
    publish: tell,
    oversized: tell,
    acknowledged: tell,
  }
}
