import { ReasonCode } from '../../wire/mqtt/v5/reason.ts'
import type { CloseReason } from './counters.ts'

/** What a client of MQTT 5 is told in DISCONNECT when the server ends its connection (section 3.14.2.1). Undefined: nothing. */
export const endCodes: Readonly<Record<CloseReason, number | undefined>> = {
  client: undefined,
  closed: undefined,
  refused: undefined,
  connections: undefined,
  connect_rate: undefined,
  silent: undefined,
  connect_timeout: undefined,
  keep_alive: ReasonCode.keepAliveTimeout,
  packet_timeout: ReasonCode.implementationSpecificError,
  write_timeout: ReasonCode.quotaExceeded,
  protocol: ReasonCode.protocolError,
  limit: ReasonCode.quotaExceeded,
  taken_over: ReasonCode.sessionTakenOver,
  denied: ReasonCode.notAuthorized,
  overload: ReasonCode.serverBusy,
  revoked: ReasonCode.notAuthorized,
  kicked: ReasonCode.administrativeAction,
  shutdown: ReasonCode.serverShuttingDown,
  error: ReasonCode.unspecifiedError,
}
