import type { IncomingMessage } from 'node:http'
import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import type { Env } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import type { IngestGate } from '../../core/gate.ts'
import type { Metrics } from '../../core/metrics.ts'
import type { MqttService } from '../../core/services.ts'
import type { SessionStore } from '../../core/session-store.ts'
import type { AuthThrottle } from '../auth-throttle.ts'
import { guard, serverOptions, type TlsListener } from '../tls/listener.ts'
import type { MqttAuthorizer } from './authorizer.ts'
import { Broker } from './broker.ts'
import type { TelemetryTopics } from './host.ts'
import type { MqttLimits } from './limits.ts'
import { createOperator } from './operator.ts'
import type { Lingering } from './socket.ts'
import { SocketConnection } from './socket.ts'
import { createUpgrade, type WebSocketFacts } from './websocket.ts'

export interface MqttDoorOptions {
  readonly host: string
  /** 0: any free one. */
  readonly port: number
  readonly gate: IngestGate
  readonly topics: TelemetryTopics
  readonly authorizer: MqttAuthorizer
  readonly env: Env
  readonly metrics: Metrics
  readonly limits?: Partial<MqttLimits>
  readonly throttle?: AuthThrottle
  /** Topics below `$SYS` (see SysTopics), for the clients of tenant `default`; absent: none. */
  readonly sys?: { readonly version: string; readonly intervalMs: number } | undefined
  /** Where retained messages are kept; absent: nothing is retained. Closed by who opened it, after the door. */
  readonly store?: SessionStore
  /** False: only `tls`. */
  readonly plain?: boolean
  readonly tls?: TlsListener & { readonly port: number }
  /** Authorities that vouch for clients of `upgrade` are those of `tls`: their certificates are worth as much. */
  readonly webSocketCertificates?: boolean
}

export interface MqttDoor {
  readonly host: string
  /** The one without TLS, where that is open; else the other. */
  readonly port: number
  readonly tlsPort: number | undefined
  connections(): number
  readonly operator: MqttService
  /** Takes a request to change to WebSocket (section 6), whose Host and Origin are right: MQTT over it is as over the door's own ports. */
  upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void
  /** Delivers a message of the server's own to its subscribers; the gate does not see it. Tenant `default` unless given. */
  publish(topic: string, payload: Uint8Array, qos: 0 | 1, tenant?: string): void
  /** Ends the connections that were let in with this token; returns how many. */
  disconnect(principalId: string): number
  stopAccepting(): void
  /** Stops reading, waits at most `drainMs` until everything taken is durable and acknowledged, then closes all connections. */
  close(drainMs: number): Promise<void>
}

/** TCP probes of an idle connection find a peer that vanished without a word, whatever its keep-alive. */
const probeMs = 60_000

/** Opens the door for MQTT 3.1.1 and 5. Rejects with `port_in_use` (facts: port). */
export async function openMqttDoor(o: MqttDoorOptions): Promise<MqttDoor> {
  const { env } = o
  const broker = new Broker({ ...o, defer: setImmediate })
  const lingering: Lingering = { ms: broker.limits.lingerMs, max: broker.limits.lingeringMax, count: 0 }
  const webSockets: WebSocketFacts = {
    clock: env.clock,
    limits: broker.limits,
    lingering,
    partial: broker.partial,
    certificates: o.webSocketCertificates === true,
    closing: false,
  }
  const accept = (socket: Socket): void => {
    if (socket.destroyed) return
    const connection = new SocketConnection(socket, env.clock, lingering)
    const session = broker.accept(connection)
    if (session === undefined) connection.destroy()
    else connection.open(session)
  }
  const socketOptions = { noDelay: true, keepAlive: true, keepAliveInitialDelay: probeMs, pauseOnConnect: true }
  await broker.restore()
  const servers: Server[] = []
  const open = async (server: Server, port: number): Promise<AddressInfo> => {
    const bound = await listen(server, o.host, port)
    // A connection that could not be accepted (no file descriptor left) is lost; the door stays open.
    server.on('error', (error) => env.logger.warn('mqtt door', { error: error.message }))
    servers.push(server)
    return bound
  }
  const stopAccepting = (): void => {
    webSockets.closing = true
    for (const server of servers) if (server.listening) server.close()
  }
  let plain: AddressInfo | undefined
  let secure: AddressInfo | undefined
  try {
    if (o.plain !== false) plain = await open(createServer(socketOptions, accept), o.port)
    if (o.tls !== undefined) {
      const server = createTlsServer({ ...socketOptions, ...serverOptions(o.tls) }, accept)
      server.maxConnections = broker.limits.connectionsMax
      guard(server, { ...o.tls, door: 'mqtt', env, metrics: o.metrics })
      secure = await open(server, o.tls.port)
    }
  } catch (error) {
    stopAccepting()
    throw error
  }
  const first = plain ?? secure
  if (first === undefined) throw new KymoError('config_invalid', { detail: 'The MQTT door has no port: neither plain nor TLS.' })
  return {
    host: first.address,
    port: first.port,
    tlsPort: secure?.port,
    connections: () => broker.connections,
    operator: createOperator(broker, o.store),
    upgrade: createUpgrade(webSockets, (connection) => broker.accept(connection)),
    publish: (topic, payload, qos, tenant = 'default') => broker.publish(topic, payload, qos, tenant),
    disconnect: (principalId) => broker.disconnect(principalId),
    stopAccepting,
    async close(drainMs) {
      stopAccepting()
      await broker.close(drainMs)
    },
  }
}

function listen(server: Server, host: string, port: number): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException): void => {
      reject(error.code === 'EADDRINUSE' ? new KymoError('port_in_use', { facts: { port }, cause: error }) : error)
    }
    server.once('error', failed)
    server.listen({ host, port }, () => {
      server.off('error', failed)
      resolve(server.address() as AddressInfo)
    })
  })
}
