import { KymoError } from '../../core/errors.ts'
import type { MessageContext } from '../../core/gate.ts'
import { copyBytes } from '../../wire/mqtt/text.ts'
import type { MqttHost } from './host.ts'

/** Keeps the beginning of a PUBLISH over the packet limit as a dead letter, unless its address sends too many such. */
export function keepOversized(host: MqttHost, address: string, context: MessageContext, beginning: Uint8Array, payloadBytes: number): void {
  const { gate, counters, limits, oversized } = host
  if (!oversized.admits(address)) {
    counters.dropped.oversized.value++
    return
  }
  const detail =
    `The message has ${payloadBytes} bytes; an MQTT packet may have ${limits.packetBytesMax}, with its topic. ` +
    'Send it in parts, or over HTTP. The connection was closed.'
  const error = new KymoError('body_too_large', { detail, errors: [{ pointer: '', detail }] })
  const kept = copyBytes(beginning, 0, Math.min(beginning.length, limits.oversizedBytes))
  if (gate.deadLetter(context, error, kept, payloadBytes) === 0) counters.dropped.overload.value++
  else counters.dropped.refused.value++
}
