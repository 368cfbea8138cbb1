import { pingresp } from '../../wire/mqtt/encode.ts'
import { Framer } from '../../wire/mqtt/framer.ts'
import { PacketType } from '../../wire/mqtt/packets.ts'
import type { AckType, Connect, PacketSink, Subscription, Violation, Will } from '../../wire/mqtt/packets.ts'
import type { Connect5, PacketSink5, Subscribe5, Will5 } from '../../wire/mqtt/v5/packets.ts'
import type { Properties } from '../../wire/mqtt/v5/properties.ts'
import { noProperties } from '../../wire/mqtt/v5/publish.ts'
import type { PublishProperties } from '../../wire/mqtt/v5/publish.ts'
import { ReasonCode } from '../../wire/mqtt/v5/reason.ts'
import { accepted, disconnected, refused, subscribed, unsubscribed, unsupportedLevel } from './answers.ts'
import type { MqttPrincipal } from './authorizer.ts'
import { authorize, connackProperties, keepAliveOf, refusalOf, requestOf, requestOf5 } from './connecting.ts'
import type { ConnectionRequest, Refusal } from './connecting.ts'
import type { Connection } from './connection.ts'
import type { CloseReason } from './counters.ts'
import { endCodes } from './ending.ts'
import type { HostedSession, MqttHost, SessionFacts } from './host.ts'
import { Inbound } from './inbound.ts'
import { handOver } from './fanout.ts'
import { Outbox } from './outbox.ts'
import { subscribeAll, unsubscribeAll } from './subscribing.ts'
import type { Terms } from './terms.ts'
import { terms311, terms5 } from './terms.ts'
import type { RetainedFeed } from './retained.ts'
import { retainedTarget } from './retained-target.ts'
import { Hold, Reading } from './reading.ts'
import type { ReadingControl } from './reading.ts'
import { Watch } from './watch.ts'
import type { Watched } from './watch.ts'
import { PacketWriter } from './writer.ts'
import { tlsHello } from '../tls/listener.ts'

/** What the network does to a session. */
export interface MqttSession {
  /** Bytes from the peer, borrowed for the call. */
  receive(bytes: Uint8Array, start: number, end: number): void
  /** The network took all that was written. */
  drained(): void
  /** The peer is gone. */
  closed(): void
}

/** A session over a connection that the host has admitted. Its first packet is to be a CONNECT, soon. */
export function createMqttSession(host: MqttHost, connection: Connection): MqttSession & HostedSession {
  return new Session(host, connection)
}

class Session implements MqttSession, HostedSession, PacketSink, PacketSink5, ReadingControl, Watched {
  principal: MqttPrincipal | undefined
  readonly #host: MqttHost
  readonly #connection: Connection
  readonly #writer: PacketWriter
  readonly #framer: Framer
  #state: 'new' | 'refusing' | 'open' | 'ended' = 'new'
  #inbound: Inbound | undefined
  #outbox: Outbox | undefined
  /** Retained messages that are due to it. */
  #retained: RetainedFeed | undefined
  #will: Will | Will5 | undefined
  #terms: Terms = terms311
  /** The client asked for its session to outlive the connection. */
  #asksToStay = false
  #connectedUs = 0
  readonly #reading: Reading
  readonly #watch: Watch

  constructor(host: MqttHost, connection: Connection) {
    this.#host = host
    this.#connection = connection
    this.#writer = new PacketWriter(connection, (writer) => host.schedule(writer), host.sending)
    this.#framer = new Framer(this, host.limits.connectPacketBytesMax, this)
    this.#reading = new Reading(host, connection, this.#framer, this.#writer, this)
    this.#watch = new Watch(host, this.#writer, this)
  }

  get unacknowledged(): number {
    return this.#inbound?.unacknowledged ?? 0
  }

  receive(bytes: Uint8Array, start: number, end: number): void {
    if (this.#state === 'ended') return
    const before = this.#framer.packets
    this.#reading.read(bytes, start, end)
    this.#watch.progress(this.#framer.packets !== before, end - start)
  }

  drained(): void {
    if (this.#state === 'ended') return
    this.#writer.account()
    this.#watch.drained()
    this.#outbox?.drained()
    this.#retained?.resume()
    this.#reading.release(Hold.writes)
  }

  closed(): void {
    this.end('closed', 'The peer closed the connection.')
  }

  takenOver(): void {
    this.end('taken_over', 'Another connection uses the client id.')
  }

  revoke(): void {
    this.end('revoked', 'The credentials were revoked.')
  }

  kick(): void {
    this.end('kicked', 'An operator has ended the connection.')
  }

  get subscriber(): Outbox | undefined {
    return this.#outbox
  }

  facts(): SessionFacts {
    const { remoteAddress, transport, bytesRead, bytesWritten } = this.#connection
    return {
      address: remoteAddress,
      transport,
      level: this.#terms.level,
      connectedUs: this.#connectedUs,
      keepAliveS: this.#watch.keepAliveS,
      inflight: this.#outbox?.inflight ?? 0,
      queued: this.#outbox?.queued ?? 0,
      messagesIn: this.#reading.publishes,
      messagesOut: this.#outbox?.sent ?? 0,
      bytesIn: bytesRead,
      bytesOut: bytesWritten,
    }
  }

  drain(): void {
    this.#reading.hold(Hold.drain)
    this.#inbound?.dropHeld()
  }

  shutdown(): void {
    // The device is as alive as before: its will would be wrong.
    this.#will = undefined
    this.end('shutdown', 'The server is shutting down.')
  }

  // --- packets ---

  publish(bytes: Uint8Array, flags: number, topicStart: number, topicEnd: number, packetId: number, start: number, end: number): void {
    if (this.#inbound === undefined) this.#notConnected()
    else {
      this.#inbound.publish(bytes, flags, topicStart, topicEnd, packetId, noProperties, start, end)
      this.#reading.took(end - topicStart)
    }
  }

  publish5(
    bytes: Uint8Array,
    flags: number,
    topicStart: number,
    topicEnd: number,
    packetId: number,
    properties: PublishProperties,
    start: number,
    end: number,
  ): void {
    if (this.#inbound === undefined) this.#notConnected()
    else {
      this.#inbound.publish(bytes, flags, topicStart, topicEnd, packetId, properties, start, end)
      this.#reading.took(end - topicStart)
    }
  }

  oversized(
    bytes: Uint8Array,
    flags: number,
    topicStart: number,
    topicEnd: number,
    packetId: number,
    start: number,
    end: number,
    payloadBytes: number,
  ): void {
    this.#inbound?.oversized(bytes, flags, topicStart, topicEnd, packetId, noProperties, start, end, payloadBytes)
  }

  oversized5(...packet: Parameters<PacketSink5['oversized5']>): void {
    this.#inbound?.oversized(...packet)
  }

  acknowledged(type: AckType, packetId: number): void {
    this.acknowledged5(type, packetId, ReasonCode.success)
  }

  acknowledged5(type: AckType, packetId: number, reasonCode: number): void {
    if (this.#state !== 'open') return this.#notConnected()
    if (type === PacketType.puback) this.#outbox?.acknowledged(packetId)
    else if (type === PacketType.pubrec) this.#outbox?.received(packetId, reasonCode)
    else if (type === PacketType.pubcomp) this.#outbox?.completed(packetId)
    else this.#inbound?.released(packetId)
    if (type !== PacketType.pubrel) this.#retained?.resume()
  }

  connect(packet: Connect): void {
    this.#admit(requestOf(packet))
  }

  connect5(packet: Connect5): void {
    this.#admit(requestOf5(packet))
  }

  unsupported(level: number): void {
    if (this.#state !== 'new') return this.end('protocol', 'A second CONNECT. [MQTT-3.1.0-2]')
    this.#writer.send(unsupportedLevel(level))
    this.end('refused', 'The protocol level is not supported. [MQTT-3.1.2-2]')
  }

  subscribe(packetId: number, subscriptions: readonly Subscription[]): void {
    this.#subscribe(packetId, subscriptions, 0)
  }

  subscribe5({ packetId, subscriptions, subscriptionIdentifier }: Subscribe5): void {
    this.#subscribe(packetId, subscriptions, subscriptionIdentifier)
  }

  unsubscribe(packetId: number, filters: readonly string[]): void {
    const { principal } = this
    if (principal === undefined) return this.#notConnected()
    this.#answer(unsubscribed(this.#terms, packetId, unsubscribeAll(this.#host, principal, this.#outbox!, this.#retained!, filters)))
  }

  unsubscribe5(packetId: number, filters: readonly string[]): void {
    this.unsubscribe(packetId, filters)
  }

  pingreq(): void {
    if (this.#state !== 'open') return this.#notConnected()
    this.#writer.send(pingresp)
  }

  disconnect(): void {
    this.disconnect5(ReasonCode.success, undefined)
  }

  disconnect5(reasonCode: number, properties: Properties | undefined): void {
    if (this.#state !== 'open') return this.#notConnected()
    if ((properties?.sessionExpiryInterval ?? 0) > 0 && !this.#asksToStay) {
      return this.end('protocol', 'A DISCONNECT lengthens a session that was to end with its connection. [section 3.14.2.2.2]')
    }
    // With any other reason it goes out [MQTT-3.14.4-3].
    if (reasonCode === ReasonCode.success) this.#will = undefined
    this.end('client', 'The client disconnected.')
  }

  auth(): void {
    if (this.#state !== 'open') return this.#notConnected()
    this.end('protocol', 'An AUTH where no authentication method was agreed on. [MQTT-4.12.0-6]')
  }

  // --- life ---

  #admit(request: ConnectionRequest): void {
    if (this.#state !== 'new') return this.end('protocol', 'A second CONNECT. [MQTT-3.1.0-2]')
    this.#terms = request.terms
    const wrong = refusalOf(request, this.#host.limits, false)
    if (wrong !== undefined) return this.#refuse(wrong)
    const answer = authorize(this.#host, this.#connection, request)
    if ('principal' in answer) return this.#open(request, answer.principal)
    if (!answer.late) return this.#refuse(answer.refusal)
    this.#state = 'refusing'
    this.#framer.stop()
    this.#connection.pause()
    this.#host.throttle.failed(this.#connection.remoteAddress, () => this.#refuse(answer.refusal))
  }

  #open(request: ConnectionRequest, principal: MqttPrincipal): void {
    const { limits, clock, logger } = this.#host
    this.#state = 'open'
    this.principal = principal
    this.#connectedUs = clock.nowUs()
    this.#will = request.will
    this.#asksToStay = (request.properties.sessionExpiryInterval ?? 0) > 0
    this.#framer.packetBytesMax = limits.packetBytesMax
    this.#framer.oversizedBytes = limits.oversizedBytes
    this.#framer.topicAliasMax = limits.topicAliasMax
    this.#outbox = new Outbox(this.#host, this.#writer, this.#terms, () => this.#watch.expectDrain())
    this.#retained = this.#host.retained.open(
      principal.tenant,
      retainedTarget(this.#outbox, clock, (thrown) => this.failed(thrown)),
    )
    this.#inbound = new Inbound(
      this.#host,
      principal,
      this.#terms,
      {
        pauseReading: () => this.#reading.hold(Hold.inflight),
        resumeReading: () => this.#reading.release(Hold.inflight),
        end: (reason, detail, reasonCode) => this.end(reason, detail, reasonCode),
        failed: (thrown) => this.failed(thrown),
      },
      this.#connection.remoteAddress,
      this.#writer,
      this.#outbox,
    )
    this.#reading.limit()
    this.#host.counters.connected(this.#terms.level, this.#connection.transport).value++
    this.#host.register(this, principal)
    const keepAliveS = keepAliveOf(request, limits)
    this.#watch.connected(keepAliveS)
    this.#answer(accepted(this.#terms, false, connackProperties(request, principal.clientId, limits, false)))
    logger.debug('mqtt client connected', { client: principal.clientId, address: this.#connection.remoteAddress, keepAliveS })
  }

  #subscribe(packetId: number, subscriptions: Subscribe5['subscriptions'] | readonly Subscription[], identifier: number): void {
    const { principal } = this
    if (principal === undefined) return this.#notConnected()
    const { codes, why } = subscribeAll(this.#host, principal, this.#outbox!, this.#retained!, subscriptions, identifier)
    this.#answer(subscribed(this.#terms, packetId, codes, why))
  }

  /** An answer that does not fit what the client takes is not sent [MQTT-3.1.2-24]. */
  #answer(bytes: Uint8Array | undefined): void {
    if (bytes !== undefined) this.#writer.send(bytes)
  }

  #notConnected(): void {
    this.end('protocol', 'The first packet is not a CONNECT. [MQTT-3.1.0-1]')
  }

  #refuse({ reasonCode, text }: Refusal): void {
    if (this.#state === 'ended') return
    this.#answer(refused(this.#terms, reasonCode, text))
    this.end('refused', text)
  }

  /** In MQTT 5 a server says why it ends a connection [MQTT-4.13.1-1]; of a CONNECT that cannot be read, in CONNACK [MQTT-3.1.4-1]. */
  #sayWhy(reasonCode: number, detail: string): void {
    if (this.#state === 'open') this.#answer(disconnected(this.#terms, reasonCode, detail))
    else if (this.#state === 'new' && this.#framer.level === 5) this.#answer(refused(terms5({}), reasonCode, detail))
  }

  /** Ends the session once; whatever comes later finds nothing to do. */
  end(reason: CloseReason, detail: string, reasonCode = endCodes[reason]): void {
    if (this.#state === 'ended') return
    if (reasonCode !== undefined) this.#sayWhy(reasonCode, detail)
    this.#state = 'ended'
    const host = this.#host
    host.counters.closed[reason].value++
    this.#watch.stop()
    this.#reading.finish()
    this.#inbound?.close()
    this.#retained?.close()
    const unfinished = this.#outbox?.unfinished() ?? []
    this.#outbox?.close()
    if (this.principal !== undefined) {
      host.subscriptions(this.principal.tenant).removeAll(this.#outbox!)
    }
    host.ended(this)
    // When all are sent away there is nobody to hand anything to.
    if (reason !== 'shutdown' && unfinished.length > 0) handOver(unfinished, this.#outbox!)
    if (reason !== 'closed') {
      this.#writer.flush()
      this.#connection.close()
    }
    this.#writer.discard()
    host.logger.debug('mqtt client gone', { client: this.principal?.clientId, address: this.#connection.remoteAddress, reason, detail })
    if (this.#will !== undefined && this.principal !== undefined) host.publishWill(this.principal, this.#will)
  }

  // --- what its parts ask ---

  get state(): 'new' | 'refusing' | 'open' | 'ended' {
    return this.#state
  }

  get reads(): boolean {
    return !this.#reading.held
  }

  get pendingBytes(): number {
    return this.#framer.pendingBytes
  }

  wrong({ kind, reasonCode, statement, text }: Violation, bytes: Uint8Array | undefined, start: number): void {
    if (this.#state === 'new' && bytes?.[start] === tlsHello && bytes[start + 1] === 3) this.#host.tlsOnPlain(this.#connection.remoteAddress)
    this.end(kind, `${text} [${statement}]`, reasonCode)
  }

  congested(): void {
    this.#watch.expectDrain()
  }

  released(): void {
    this.#watch.alive()
  }

  failed(thrown: unknown): void {
    this.#host.logger.error('mqtt session failed', { client: this.principal?.clientId, error: String(thrown) })
    this.end('error', 'The session failed.')
  }
}
