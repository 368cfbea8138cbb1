import type { MessageArray } from '../../wire/message-array.ts'
import type { KeptProperties } from './message.ts'
import type { Route } from './routes.ts'

/** What a publish that the gate did not take is kept as. Without a route only its acknowledgement is still due. */
export interface Held {
  readonly route: Route | undefined
  readonly flags: number
  readonly packetId: number
  readonly payload: Uint8Array
  readonly properties: KeptProperties
  /** What it is answered with. */
  readonly reasonCode: number
  /** Of an array that was taken in part: the rest of it. */
  array: MessageArray | undefined
}

/** Counted for each held publish beside its payload. */
const heldOverheadBytes = 128

/** Bytes that it counts for. */
export function weightOf({ payload, properties }: Held): number {
  return payload.length + properties.forwarded.bytes.length + heldOverheadBytes
}
