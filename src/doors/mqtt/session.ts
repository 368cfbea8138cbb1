import type { Timer } from '../../core/env.ts'
import { encodeConnack, encodeSuback, encodeUnsuback, encodeUnsupportedVersion, pingresp } from '../../wire/mqtt/encode.ts'
import { Framer } from '../../wire/mqtt/framer.ts'
import { ConnackCode, PacketType, subscribeRefused } from '../../wire/mqtt/packets.ts'
import type { AckType, Connect, PacketSink, Subscription, Will } from '../../wire/mqtt/packets.ts'
import type { MqttPrincipal } from './authorizer.ts'
import type { Connection } from './connection.ts'
import type { CloseReason } from './counters.ts'
import type { HostedSession, MqttHost } from './host.ts'
import { Inbound } from './inbound.ts'
import { Outbox } from './outbox.ts'
import { PacketWriter } from './writer.ts'
import { ClientRate } from '../rate.ts'
import { tlsHello } from '../tls/listener.ts'

/** Why a session reads nothing for the moment. */
const Hold = { inflight: 1, writes: 2, drain: 4, rate: 8 } as const

/** A partial packet that grew by less than this does not count as a sign of life. */
const progressBytesMin = 1024
/** What a client may leave unread of our answers, in write buffers' sizes, before it is not read either. */
const unreadAnswersFactor = 4

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

class Session implements MqttSession, HostedSession, PacketSink {
  principal: MqttPrincipal | undefined
  readonly #host: MqttHost
  readonly #connection: Connection
  readonly #writer: PacketWriter
  readonly #framer: Framer
  #state: 'new' | 'refusing' | 'open' | 'ended' = 'new'
  #inbound: Inbound | undefined
  #outbox: Outbox | undefined
  #will: Will | undefined
  readonly #filters = new Set<string>()
  #holds = 0
  #partialBytes = 0
  #progressBytes = 0
  #keepAliveMs = 0
  #aliveMs: number
  #timer: Timer
  #writeTimer: Timer | undefined
  /** Where clients are limited. */
  #rate: ClientRate | undefined
  #rateTimer: Timer | undefined

  constructor(host: MqttHost, connection: Connection) {
    this.#host = host
    this.#connection = connection
    this.#writer = new PacketWriter(connection, (writer) => host.schedule(writer), host.sending)
    this.#framer = new Framer(this, host.limits.connectPacketBytesMax)
    this.#aliveMs = host.clock.monotonicMs()
    this.#timer = host.clock.after(host.limits.connectTimeoutMs, () => this.#end('connect_timeout', 'No CONNECT came.'))
  }

  get unacknowledged(): number {
    return this.#inbound?.unacknowledged ?? 0
  }

  receive(bytes: Uint8Array, start: number, end: number): void {
    if (this.#state === 'ended') return
    const before = this.#framer.packets
    this.#read(bytes, start, end)
    this.#progress(this.#framer.packets !== before, end - start)
  }

  drained(): void {
    if (this.#state === 'ended') return
    this.#writer.account()
    this.#writeTimer?.cancel()
    this.#writeTimer = undefined
    this.#outbox?.drained()
    this.#release(Hold.writes)
  }

  closed(): void {
    this.#end('closed', 'The peer closed the connection.')
  }

  takenOver(): void {
    this.#end('taken_over', 'Another connection uses the client id.')
  }

  revoke(): void {
    this.#end('revoked', 'The credentials were revoked.')
  }

  drain(): void {
    this.#hold(Hold.drain)
    this.#inbound?.dropHeld()
  }

  shutdown(): void {
    // The device is as alive as before: its will would be wrong.
    this.#will = undefined
    this.#end('shutdown', 'The server is shutting down.')
  }

  // --- packets ---

  publish(bytes: Uint8Array, flags: number, topicStart: number, topicEnd: number, packetId: number, start: number, end: number): void {
    if (this.#inbound === undefined) this.#notConnected()
    else {
      this.#inbound.publish(bytes, flags, topicStart, topicEnd, packetId, start, end)
      if (this.#rate !== undefined) this.#slow(this.#rate, end - topicStart)
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
    this.#inbound?.oversized(bytes, flags, topicStart, topicEnd, packetId, start, end, payloadBytes)
  }

  acknowledged(type: AckType, packetId: number): void {
    if (this.#state !== 'open') return this.#notConnected()
    if (type === PacketType.puback) this.#outbox?.acknowledged(packetId)
    else if (type === PacketType.pubrel) this.#inbound?.released(packetId)
    // PUBREC and PUBCOMP answer deliveries at QoS 2, which is never granted: there is nothing that they could be about.
  }

  connect(packet: Connect): void {
    if (this.#state !== 'new') return this.#end('protocol', 'A second CONNECT. [MQTT-3.1.0-2]')
    const clientId = packet.clientId === '' && packet.cleanSession ? `auto-${this.#host.random.uuid()}` : packet.clientId
    if (clientId === '' || packet.clientIdBytes > this.#host.limits.clientIdBytesMax) {
      return this.#refuse(encodeConnack(false, ConnackCode.identifierRejected), 'The client id is empty or too long. [MQTT-3.1.3-8]')
    }
    const { remoteAddress, certificate } = this.#connection
    const { throttle, authorizer, counters } = this.#host
    if (packet.username !== undefined && !throttle.admits(remoteAddress)) {
      counters.authFailures.value++
      return this.#refuse(encodeConnack(false, ConnackCode.serverUnavailable), 'Too many failed credentials.')
    }
    const answer = authorizer.connect({ clientId, username: packet.username, password: packet.password, remoteAddress, certificate })
    if (answer.ok) return this.#open(packet, answer)
    counters.authFailures.value++
    const connack = encodeConnack(false, answer.code === 'bad_credentials' ? ConnackCode.badCredentials : ConnackCode.notAuthorized)
    if (packet.username === undefined) return this.#refuse(connack, 'Credentials are missing.')
    this.#state = 'refusing'
    this.#framer.stop()
    this.#connection.pause()
    throttle.failed(remoteAddress, () => this.#refuse(connack, 'The credentials are not valid.'))
  }

  unsupported(level: number): void {
    if (this.#state !== 'new') return this.#end('protocol', 'A second CONNECT. [MQTT-3.1.0-2]')
    const connack = level === 5 ? encodeUnsupportedVersion() : encodeConnack(false, ConnackCode.unacceptableProtocol)
    this.#refuse(connack, 'The protocol level is not supported. [MQTT-3.1.2-2]')
  }

  subscribe(packetId: number, subscriptions: readonly Subscription[]): void {
    const { principal } = this
    if (principal === undefined) return this.#notConnected()
    const tree = this.#host.subscriptions(principal.tenant)
    const codes = subscriptions.map(({ filter, qos }) => {
      if (!this.#maySubscribe(principal, filter)) return subscribeRefused
      // QoS 2 deliveries are not offered: a server may grant less than was asked for [MQTT-3.8.4-6].
      const granted = qos === 0 ? 0 : 1
      if (!tree.add(filter, this.#outbox!, granted)) return subscribeRefused
      this.#filters.add(filter)
      return granted
    })
    this.#writer.send(encodeSuback(packetId, codes))
  }

  unsubscribe(packetId: number, filters: readonly string[]): void {
    const { principal } = this
    if (principal === undefined) return this.#notConnected()
    const tree = this.#host.subscriptions(principal.tenant)
    for (const filter of filters) if (this.#filters.delete(filter)) tree.remove(filter, this.#outbox!)
    this.#writer.send(encodeUnsuback(packetId))
  }

  pingreq(): void {
    if (this.#state !== 'open') return this.#notConnected()
    this.#writer.send(pingresp)
  }

  disconnect(): void {
    if (this.#state !== 'open') return this.#notConnected()
    this.#will = undefined
    this.#end('client', 'The client disconnected.')
  }

  // --- life ---

  #open(packet: Connect, principal: MqttPrincipal): void {
    const { limits, clock, logger } = this.#host
    this.#state = 'open'
    this.principal = principal
    this.#will = packet.will
    this.#framer.packetBytesMax = limits.packetBytesMax
    this.#framer.oversizedBytes = limits.oversizedBytes
    this.#inbound = new Inbound(
      this.#host,
      principal,
      {
        pauseReading: () => this.#hold(Hold.inflight),
        resumeReading: () => this.#release(Hold.inflight),
        end: (reason, detail) => this.#end(reason, detail),
        failed: (thrown) => this.#failed(thrown),
      },
      this.#connection.remoteAddress,
      this.#writer,
    )
    if (limits.clientMessagesPerS > 0 || limits.clientBytesPerS > 0) {
      const { clientMessagesPerS: messagesPerS, clientBytesPerS: bytesPerS, rateWakeMs: wakeMs } = limits
      this.#rate = new ClientRate(clock, { messagesPerS, bytesPerS, wakeMs })
    }
    this.#outbox = new Outbox(this.#host, this.#writer, () => this.#expectDrain())
    this.#host.register(this, principal)
    this.#timer.cancel()
    this.#keepAliveMs = packet.keepAliveS * 1500
    this.#timer = clock.after(this.#checkMs(), () => this.#checkAlive())
    this.#writer.send(encodeConnack(false, ConnackCode.accepted))
    logger.debug('mqtt client connected', { client: principal.clientId, address: this.#connection.remoteAddress, keepAliveS: packet.keepAliveS })
  }

  #maySubscribe(principal: MqttPrincipal, filter: string): boolean {
    const { limits, authorizer } = this.#host
    if (!this.#filters.has(filter) && this.#filters.size >= limits.subscriptionsPerClientMax) return false
    if (filter.startsWith('$share/') || filter.length > limits.topicBytesMax) return false
    return filter.split('/').length <= limits.topicLevelsMax && authorizer.subscribe(principal, filter)
  }

  #notConnected(): void {
    this.#end('protocol', 'The first packet is not a CONNECT. [MQTT-3.1.0-1]')
  }

  #refuse(connack: Uint8Array, detail: string): void {
    if (this.#state === 'ended') return
    this.#writer.send(connack)
    this.#end('refused', detail)
  }

  /** Ends the session once; whatever comes later finds nothing to do. */
  #end(reason: CloseReason, detail: string): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    const host = this.#host
    host.counters.closed[reason].value++
    this.#timer.cancel()
    this.#writeTimer?.cancel()
    this.#rateTimer?.cancel()
    this.#finishReading()
    this.#inbound?.close()
    this.#outbox?.close()
    if (this.principal !== undefined) {
      const tree = host.subscriptions(this.principal.tenant)
      for (const filter of this.#filters) tree.remove(filter, this.#outbox!)
    }
    host.partial.used -= this.#partialBytes
    this.#partialBytes = 0
    host.ended(this)
    if (reason !== 'closed') {
      this.#writer.flush()
      this.#connection.close()
    }
    this.#writer.discard()
    host.logger.debug('mqtt client gone', { client: this.principal?.clientId, address: this.#connection.remoteAddress, reason, detail })
    if (this.#will !== undefined && this.principal !== undefined) host.publishWill(this.principal, this.#will)
  }

  /** Frames what came, or without bytes what was kept; what goes wrong in it ends this connection and no other. */
  #read(bytes?: Uint8Array, start = 0, end = 0): void {
    try {
      const wrong = bytes === undefined ? this.#framer.resume() : this.#framer.push(bytes, start, end)
      if (wrong !== undefined) {
        if (this.#state === 'new' && bytes?.[start] === tlsHello && bytes[start + 1] === 3) this.#host.tlsOnPlain(this.#connection.remoteAddress)
        this.#end(wrong.kind, `${wrong.text} [${wrong.statement}]`)
      }
    } catch (thrown) {
      this.#failed(thrown)
    }
    if (this.#state === 'ended') return
    const pending = this.#framer.pendingBytes
    if (pending !== this.#partialBytes) {
      this.#host.partial.used += pending - this.#partialBytes
      const grew = pending > this.#partialBytes
      this.#partialBytes = pending
      if (grew && pending > progressBytesMin && this.#host.partial.exceeded) this.#end('limit', 'Too much is waiting in incomplete packets.')
    }
    if (this.#writer.waitingBytes > this.#host.limits.socketBufferBytesMax * unreadAnswersFactor) {
      this.#expectDrain()
      this.#hold(Hold.writes)
    }
  }

  /** Nothing more is read; what came of a publish over the limit is kept. */
  #finishReading(): void {
    try {
      this.#framer.finish()
    } catch (thrown) {
      this.#host.logger.error('mqtt session failed', { client: this.principal?.clientId, error: String(thrown) })
    }
    this.#framer.stop()
  }

  #failed(thrown: unknown): void {
    this.#host.logger.error('mqtt session failed', { client: this.principal?.clientId, error: String(thrown) })
    this.#end('error', 'The session failed.')
  }

  #hold(reason: number): void {
    if (this.#state === 'ended') return
    if (this.#holds === 0) {
      this.#framer.stop()
      this.#connection.pause()
    }
    this.#holds |= reason
  }

  #release(reason: number): void {
    if (this.#state === 'ended' || (this.#holds & reason) === 0) return
    this.#holds &= ~reason
    if (this.#holds !== 0) return
    this.#aliveMs = this.#host.clock.monotonicMs()
    this.#read()
    if (this.#holds === 0 && this.#stillOpen()) this.#connection.resume()
  }

  /** A client that sends faster than it may is read later: TCP holds it back, nothing is lost. */
  #slow(rate: ClientRate, bytes: number): void {
    const ms = rate.took(bytes)
    if (ms === 0 || this.#rateTimer !== undefined || this.#state === 'ended') return
    this.#host.counters.slowed.value++
    this.#hold(Hold.rate)
    this.#rateTimer = this.#host.clock.after(ms, () => {
      this.#rateTimer = undefined
      this.#release(Hold.rate)
    })
  }

  #stillOpen(): boolean {
    return this.#state === 'open'
  }

  // --- time ---

  #progress(packet: boolean, bytes: number): void {
    this.#progressBytes += bytes
    if (!packet && this.#progressBytes < progressBytesMin) return
    this.#progressBytes = 0
    this.#aliveMs = this.#host.clock.monotonicMs()
  }

  #checkMs(): number {
    const { packetTimeoutMs } = this.#host.limits
    return this.#keepAliveMs === 0 ? packetTimeoutMs : Math.min(this.#keepAliveMs, packetTimeoutMs)
  }

  /** Keep-alive [MQTT-3.1.2-24], and an end to packets that never become complete. */
  #checkAlive(): void {
    const { limits, clock } = this.#host
    const idleMs = clock.monotonicMs() - this.#aliveMs
    let nextMs = this.#checkMs()
    // While it is us who do not read, silence says nothing.
    if (this.#holds === 0) {
      if (this.#keepAliveMs > 0 && idleMs >= this.#keepAliveMs) return this.#end('keep_alive', 'Nothing came within 1.5 times the keep-alive.')
      if (this.#framer.pendingBytes > 0 && idleMs >= limits.packetTimeoutMs) return this.#end('packet_timeout', 'A packet stayed incomplete.')
      if (this.#keepAliveMs > 0) nextMs = Math.min(nextMs, this.#keepAliveMs - idleMs)
      if (this.#framer.pendingBytes > 0) nextMs = Math.min(nextMs, limits.packetTimeoutMs - idleMs)
    }
    this.#timer = clock.after(Math.max(1, nextMs), () => this.#checkAlive())
  }

  /** Much waits for the client: it must take some of it in time. */
  #expectDrain(): void {
    if (this.#writeTimer !== undefined) return
    const before = this.#writer.waitingBytes
    this.#writeTimer = this.#host.clock.after(this.#host.limits.writeTimeoutMs, () => {
      this.#writeTimer = undefined
      if (this.#writer.waitingBytes >= before) this.#end('write_timeout', 'The client does not read.')
      else this.#expectDrain()
    })
  }
}
