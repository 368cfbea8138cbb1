import type { SessionHandle, SessionStore } from '../../core/session-store.ts'
import { Framer } from '../../wire/mqtt/framer.ts'
import type { Violation } from '../../wire/mqtt/packets.ts'
import { tlsHello } from '../tls/listener.ts'
import { accepted, disconnected, refused, unsupportedLevel } from './answers.ts'
import type { MqttPrincipal } from './authorizer.ts'
import { answerLate, authorize, connackProperties, expiryOf, keepAliveOf, refusalOf } from './connecting.ts'
import type { Admission, ConnectionRequest, Refusal } from './connecting.ts'
import type { Connection } from './connection.ts'
import type { CloseReason } from './counters.ts'
import { endCodes } from './ending.ts'
import type { HostedSession, MqttHost, SessionFacts } from './host.ts'
import { mayResume, refusalFor, willOf } from './keeping.ts'
import type { Subscriber } from './message.ts'
import { OpenSession } from './open-session.ts'
import type { ConnectionControl } from './open-session.ts'
import { PacketsIn } from './packets-in.ts'
import type { Greeting } from './packets-in.ts'
import { Hold, Reading } from './reading.ts'
import type { ReadingControl, SessionState } from './reading.ts'
import type { Terms } from './terms.ts'
import { terms311, terms5 } from './terms.ts'
import { Watch } from './watch.ts'
import type { Watched } from './watch.ts'
import { PacketWriter } from './writer.ts'

/** Of the end of a connection that the peer has closed, beside what its subscriptions and its will take: some 30 us. */
const endingUnits = 64

/** What the network does to a session. */
export interface MqttSession {
  /** Bytes from the peer, borrowed for the call. */
  receive(bytes: Uint8Array, start: number, end: number): void
  /** The network took all that was written. */
  drained(): void
  /** The peer is gone. Where many go together some of them end in turns to come, and until then are written to in vain. */
  closed(): void
}

/** A session over a connection that the host has admitted. Its first packet is to be a CONNECT, soon. */
export function createMqttSession(host: MqttHost, connection: Connection): MqttSession & HostedSession {
  return new Session(host, connection)
}

/** One connection from its first byte to its last: CONNECT, the store's answer, the client's session (`#open`), its end. */
class Session implements MqttSession, HostedSession, Greeting, ReadingControl, Watched, ConnectionControl {
  principal: MqttPrincipal | undefined
  readonly #host: MqttHost
  readonly #connection: Connection
  readonly #writer: PacketWriter
  readonly #framer: Framer
  readonly #packets: PacketsIn
  readonly #reading: Reading
  readonly #watch: Watch
  #state: SessionState = 'new'
  #open: OpenSession | undefined
  #terms: Terms = terms311
  #connectedUs = 0

  constructor(host: MqttHost, connection: Connection) {
    this.#host = host
    this.#connection = connection
    this.#writer = new PacketWriter(connection, (writer) => host.schedule(writer), host.sending, host.joiner)
    this.#packets = new PacketsIn(this)
    this.#framer = new Framer(this.#packets, host.limits.connectPacketBytesMax, this.#packets, host.spares)
    this.#reading = new Reading(host, connection, this.#framer, this.#writer, this)
    this.#watch = new Watch(host, this.#writer, this)
  }

  // --- what the network does ---

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
    this.#open?.resume()
    this.#reading.release(Hold.writes)
  }

  closed(): void {
    this.#host.endings.do(() => {
      this.#host.effort.units += endingUnits
      this.end('closed', 'The peer closed the connection.')
    })
  }

  // --- what the host does ---

  takenOver(): void {
    this.end('taken_over', 'Another connection uses the client id.')
  }

  revoke(): void {
    this.end('revoked', 'The credentials were revoked.')
  }

  crowdedOut(): void {
    this.end('silent', 'No CONNECT came, and others wait as well.')
  }

  kick(): void {
    this.end('kicked', 'An operator has ended the connection.')
  }

  drain(): void {
    this.#reading.hold(Hold.drain)
    this.#open?.inbound.dropHeld()
  }

  shutdown(): void {
    this.#open?.forgetWill()
    this.end('shutdown', 'The server is shutting down.')
  }

  get subscriber(): Subscriber | undefined {
    return this.#open?.subscriber
  }

  get unacknowledged(): number {
    return this.#open?.inbound.unacknowledged ?? 0
  }

  facts(): SessionFacts {
    const { remoteAddress, transport, bytesRead, bytesWritten } = this.#connection
    return {
      address: remoteAddress,
      transport,
      level: this.#terms.level,
      connectedUs: this.#connectedUs,
      keepAliveS: this.#watch.keepAliveS,
      inflight: this.#open?.inflight ?? 0,
      queued: this.#open?.outbox.queued ?? 0,
      messagesIn: this.#reading.publishes,
      messagesOut: this.#open?.outbox.sent ?? 0,
      bytesIn: bytesRead,
      bytesOut: bytesWritten,
    }
  }

  // --- CONNECT ---

  connect(request: ConnectionRequest): void {
    if (this.#state !== 'new') return this.#secondConnect()
    this.#terms = request.terms
    const wrong = refusalOf(request, this.#host.limits, this.#host.store !== undefined)
    if (wrong !== undefined) return this.#refuse(wrong)
    const answer = authorize(this.#host, this.#connection, request)
    if (!(answer instanceof Promise)) return this.#answered(request, answer)
    this.#wait('authorizing')
    void answer.then((admission) => this.#guarded(() => this.#answered(request, admission)))
  }

  unsupported(level: number): void {
    if (this.#state !== 'new') return this.#secondConnect()
    this.#writer.send(unsupportedLevel(level))
    this.end('refused', 'The protocol level is not supported. [MQTT-3.1.2-2]')
  }

  unexpected(): void {
    this.end('protocol', 'The first packet is not a CONNECT. [MQTT-3.1.0-1]')
  }

  #secondConnect(): void {
    this.end('protocol', 'A second CONNECT. [MQTT-3.1.0-2]')
  }

  /** Nothing more is read until the client is let in. */
  #wait(state: 'authorizing' | 'attaching'): void {
    this.#state = state
    this.#reading.hold(Hold.admission)
  }

  /** What comes later than the call that asked for it: an exception must not leave the connection open. */
  #guarded(go: () => void): void {
    if (this.#state === 'ended') return
    try {
      go()
    } catch (thrown) {
      this.failed(thrown)
    }
  }

  #answered(request: ConnectionRequest, admission: Admission): void {
    if ('principal' in admission) return this.#admit(request, admission.principal)
    if (!admission.late) return this.#refuse(admission.refusal)
    this.#state = 'refusing'
    this.#framer.stop()
    this.#connection.pause()
    answerLate(this.#host, this.#connection.remoteAddress, request.clientId, admission.account, () => this.#refuse(admission.refusal))
  }

  /** A session that is to outlive its connection is the store's, and so is one that it has, or is about to have, under this client id. */
  #admit(request: ConnectionRequest, principal: MqttPrincipal): void {
    const { store, kept, limits } = this.#host
    const expiryS = expiryOf(request, limits)
    this.principal = principal
    if (store === undefined || (expiryS === 0 && !kept.has(principal.tenant, principal.clientId))) return this.#opened(request, principal, undefined)
    this.#wait('attaching')
    const settled = kept.attaching(principal.tenant, principal.clientId)
    this.#host.register(this, principal)
    void this.#attach(store, request, principal, expiryS).finally(settled)
  }

  async #attach(store: SessionStore, request: ConnectionRequest, principal: MqttPrincipal, expiryS: number): Promise<void> {
    let handle: SessionHandle | undefined
    try {
      const will = willOf(this.#host, request.will, principal)
      handle = await store.attach(principal.tenant, principal.clientId, {
        clean: request.clean || !mayResume(this.#host, principal),
        expiryS,
        ...(will === undefined ? {} : { will }),
        onTaken: () => this.takenOver(),
        onQueued: () => this.#open?.kept?.deliveries.pull(),
      })
      await store.whenDurable(handle.ticket)
    } catch (thrown) {
      // Nobody was let in whose will could be published.
      handle?.detach({ will: 'discard' })
      return this.#refuse(refusalFor(thrown))
    }
    this.#guarded(() => this.#opened(request, principal, handle))
    // It ended meanwhile, or over it.
    if (this.#open === undefined) handle.detach({ will: 'discard' })
  }

  #opened(request: ConnectionRequest, principal: MqttPrincipal, handle: SessionHandle | undefined): void {
    const host = this.#host
    const { limits } = host
    const { remoteAddress: address, transport } = this.#connection
    this.#state = 'open'
    this.#connectedUs = host.clock.nowUs()
    this.#framer.packetBytesMax = limits.packetBytesMax
    this.#framer.oversizedBytes = limits.oversizedBytes
    this.#framer.topicAliasMax = limits.topicAliasMax
    const open = new OpenSession(host, { request, principal, address, writer: this.#writer, reading: this.#reading, handle, control: this })
    this.#open = open
    this.#packets.open = open
    this.#reading.limit()
    host.counters.connected(this.#terms.level, transport).value++
    if (handle === undefined) host.register(this, principal)
    const keepAliveS = keepAliveOf(request, limits)
    this.#watch.connected(keepAliveS)
    const properties = connackProperties(request, principal.clientId, limits, host.store !== undefined)
    const answer = accepted(this.#terms, handle?.present ?? false, properties)
    if (answer === undefined) {
      // It was never let in: no DISCONNECT, and no will.
      open.forgetWill()
      return this.end('refused', 'The client takes no packet as long as its CONNACK. [MQTT-3.1.2-24]')
    }
    this.#writer.send(answer)
    open.kept?.deliveries.pull()
    this.#reading.release(Hold.admission)
    host.logger.debug('mqtt client connected', { client: principal.clientId, address, keepAliveS })
  }

  // --- the end ---

  /** Ends the session once; whatever comes later finds nothing to do. */
  end(reason: CloseReason, detail: string, reasonCode = endCodes[reason]): void {
    if (this.#state === 'ended') return
    if (reasonCode !== undefined) this.#sayWhy(reasonCode, detail)
    this.#state = 'ended'
    const host = this.#host
    host.counters.closed[reason].value++
    this.#watch.stop()
    this.#reading.finish()
    host.ended(this)
    // When all are sent away there is nobody to hand anything to.
    try {
      this.#open?.close(reason !== 'shutdown')
    } catch (thrown) {
      host.logger.error('mqtt session failed at its end', { client: this.principal?.clientId, error: String(thrown) })
    }
    if (reason !== 'closed') {
      this.#writer.flush()
      this.#connection.close()
    }
    this.#writer.discard()
    host.logger.debug('mqtt client gone', { client: this.principal?.clientId, address: this.#connection.remoteAddress, reason, detail })
    this.#open?.publishWill()
  }

  failed(thrown: unknown): void {
    this.#host.logger.error('mqtt session failed', { client: this.principal?.clientId, error: String(thrown) })
    this.end('error', 'The session failed.')
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

  /** An answer that does not fit what the client takes is not sent [MQTT-3.1.2-24]. */
  #answer(bytes: Uint8Array | undefined): void {
    if (bytes !== undefined) this.#writer.send(bytes)
  }

  // --- what its parts ask ---

  get state(): SessionState {
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
}
