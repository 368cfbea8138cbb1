import { limits } from '../../core/limits.ts'

/** The door's bounds; see core/limits.ts for the arithmetic of each. */
export interface MqttLimits {
  readonly packetBytesMax: number
  /** Of the client's to the server, and of the server's to a client. */
  readonly topicAliasMax: number
  readonly sendAliasesMax: number
  /** The longest keep-alive of a client of MQTT 5, in seconds; 0: as it likes. */
  readonly keepAliveSMax: number
  readonly connectPacketBytesMax: number
  readonly connectionsMax: number
  readonly connectionsPerAddressMax: number
  /** Connections that have not sent CONNECT. */
  readonly silentPerAddressMax: number
  readonly silentMax: number
  /** Of one address; 0: no limit. */
  readonly connectsPerS: number
  readonly connectsBurst: number
  readonly connectAddressesMax: number
  readonly clientIdBytesMax: number
  /** Of sessions of 3.1.1 that are to stay, and the longest of all, in seconds; 4,294,967,295: they never end. */
  readonly sessionExpiryS: number
  readonly sessionExpirySMax: number
  readonly receiveInflightMax: number
  readonly sendInflightMax: number
  readonly sendQueueMax: number
  readonly sendQueueBytesMax: number
  readonly sendTotalBytesMax: number
  readonly socketBufferBytesMax: number
  readonly subscriptionsPerClientMax: number
  readonly subscriptionLevelsPerClientMax: number
  readonly topicBytesMax: number
  readonly topicLevelsMax: number
  readonly routesPerClientMax: number
  readonly matchCacheMax: number
  readonly subscriptionNodesMax: number
  readonly subscriptionsMax: number
  readonly effortPerTurn: number
  readonly fanoutPerTurn: number
  readonly retainedPerTurn: number
  readonly holdBytesMax: number
  readonly holdTotalBytesMax: number
  readonly heldWillsMax: number
  readonly partialTotalBytesMax: number
  readonly connectTimeoutMs: number
  readonly packetTimeoutMs: number
  readonly writeTimeoutMs: number
  readonly lingerMs: number
  readonly lingeringMax: number
  readonly authDelayMs: number
  readonly authPendingMax: number
  readonly authPendingPerAddressMax: number
  readonly arrayItemsMax: number
  readonly arrayItemsPerTurn: number
  readonly oversizedBytes: number
  readonly oversizedBurst: number
  readonly oversizedIntervalMs: number
  readonly oversizedAddressesMax: number
  /** Of one client; 0: no limit. */
  readonly clientMessagesPerS: number
  readonly clientBytesPerS: number
  readonly rateWakeMs: number
}

export const defaultMqttLimits: MqttLimits = {
  packetBytesMax: limits.mqttPacketBytesMax,
  topicAliasMax: limits.mqttTopicAliasMax,
  sendAliasesMax: limits.mqttSendAliasesMax,
  keepAliveSMax: 0,
  connectPacketBytesMax: limits.mqttConnectPacketBytesMax,
  connectionsMax: limits.mqttConnectionsMax,
  connectionsPerAddressMax: limits.mqttConnectionsPerAddressMax,
  silentPerAddressMax: limits.mqttSilentPerAddressMax,
  silentMax: limits.mqttSilentMax,
  connectsPerS: limits.mqttConnectsPerS,
  connectsBurst: limits.mqttConnectsBurst,
  connectAddressesMax: limits.mqttConnectAddressesMax,
  clientIdBytesMax: limits.mqttClientIdBytesMax,
  sessionExpiryS: limits.mqttSessionExpiryS,
  sessionExpirySMax: limits.mqttSessionExpirySMax,
  receiveInflightMax: limits.mqttReceiveInflightMax,
  sendInflightMax: limits.mqttSendInflightMax,
  sendQueueMax: limits.mqttSendQueueMax,
  sendQueueBytesMax: limits.mqttSendQueueBytesMax,
  sendTotalBytesMax: limits.mqttSendTotalBytesMax,
  socketBufferBytesMax: limits.mqttSocketBufferBytesMax,
  subscriptionsPerClientMax: limits.mqttSubscriptionsPerClientMax,
  subscriptionLevelsPerClientMax: limits.mqttSubscriptionLevelsPerClientMax,
  topicBytesMax: limits.mqttTopicBytesMax,
  topicLevelsMax: limits.mqttTopicLevelsMax,
  routesPerClientMax: limits.mqttRoutesPerClientMax,
  matchCacheMax: limits.mqttMatchCacheMax,
  subscriptionNodesMax: limits.mqttSubscriptionNodesMax,
  subscriptionsMax: limits.mqttSubscriptionsMax,
  effortPerTurn: limits.mqttEffortPerTurn,
  fanoutPerTurn: limits.mqttFanoutPerTurn,
  retainedPerTurn: limits.mqttRetainedPerTurn,
  holdBytesMax: limits.mqttHoldBytesMax,
  holdTotalBytesMax: limits.mqttHoldTotalBytesMax,
  heldWillsMax: limits.mqttHeldWillsMax,
  partialTotalBytesMax: limits.mqttPartialTotalBytesMax,
  connectTimeoutMs: limits.mqttConnectTimeoutMs,
  packetTimeoutMs: limits.mqttPacketTimeoutMs,
  writeTimeoutMs: limits.mqttWriteTimeoutMs,
  lingerMs: limits.mqttLingerMs,
  lingeringMax: limits.mqttLingeringMax,
  authDelayMs: limits.authDelayMs,
  authPendingMax: limits.authPendingMax,
  authPendingPerAddressMax: limits.authPendingPerAddressMax,
  arrayItemsMax: limits.mqttArrayItemsMax,
  arrayItemsPerTurn: limits.mqttArrayItemsPerTurn,
  oversizedBytes: limits.deadLetterTooLargeBytes,
  oversizedBurst: limits.mqttOversizedBurst,
  oversizedIntervalMs: limits.mqttOversizedIntervalMs,
  oversizedAddressesMax: limits.mqttOversizedAddressesMax,
  clientMessagesPerS: 0,
  clientBytesPerS: 0,
  rateWakeMs: limits.mqttRateWakeMs,
}
