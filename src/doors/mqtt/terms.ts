import type { Properties } from '../../wire/mqtt/v5/properties.ts'

/** What a client speaks, and what it is able to take. */
export interface Terms {
  /** The protocol level: 3 and 4 are 3.1 and 3.1.1. */
  readonly level: 3 | 4 | 5
  /** How many deliveries of QoS 1 and 2 it takes unacknowledged (MQTT 5, 3.1.2.11.3). */
  readonly receiveMaximum: number
  /** The longest packet that it takes (3.1.2.11.4). */
  readonly packetBytesMax: number
  /** The greatest topic alias that it takes; 0: none (3.1.2.11.5). */
  readonly topicAliasMax: number
  /** Whether reason strings are welcome in every packet that may have one (3.1.2.11.7). */
  readonly problemInformation: boolean
}

/** Of every client of 3.1.1. */
export const terms311: Terms = {
  level: 4,
  receiveMaximum: 65_535,
  packetBytesMax: Number.POSITIVE_INFINITY,
  topicAliasMax: 0,
  problemInformation: false,
}

/** Of every client of 3.1. */
export const terms31: Terms = { ...terms311, level: 3 }

/** What the CONNECT of a client of MQTT 5 says. */
export function terms5({ receiveMaximum, maximumPacketSize, topicAliasMaximum, requestProblemInformation }: Properties): Terms {
  return {
    level: 5,
    receiveMaximum: receiveMaximum ?? 65_535,
    packetBytesMax: maximumPacketSize ?? Number.POSITIVE_INFINITY,
    topicAliasMax: topicAliasMaximum ?? 0,
    problemInformation: requestProblemInformation ?? true,
  }
}
