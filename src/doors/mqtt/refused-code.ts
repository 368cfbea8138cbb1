import { isUtf8 } from 'node:buffer'
import type { PublishProperties } from '../../wire/mqtt/v5/publish.ts'
import { ReasonCode } from '../../wire/mqtt/v5/reason.ts'
import type { MqttCounters } from './counters.ts'
import type { Route } from './routes.ts'

/** Why a message that is no telemetry is not passed on, counted; undefined: it is. */
export function refusedCode(
  route: Route,
  dropped: MqttCounters['dropped'],
  bytes: Uint8Array,
  properties: PublishProperties,
  start: number,
  end: number,
): number | undefined {
  if (route.use === 'denied') {
    dropped.denied.value++
    return route.reasonCode
  }
  if (route.use === 'reserved') {
    dropped.reserved_topic.value++
    return route.reasonCode
  }
  if (properties.payloadFormat === 1 && !isUtf8(bytes.subarray(start, end))) {
    dropped.payload_format.value++
    return ReasonCode.payloadFormatInvalid
  }
  return undefined
}
