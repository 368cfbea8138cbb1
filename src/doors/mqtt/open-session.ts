import type { SessionHandle, SessionMessage } from '../../core/session-store.ts'
import { pingresp } from '../../wire/mqtt/encode.ts'
import { PacketType } from '../../wire/mqtt/packets.ts'
import type { AckType, Subscription, Will } from '../../wire/mqtt/packets.ts'
import type { Subscription5, Will5 } from '../../wire/mqtt/v5/packets.ts'
import type { Properties } from '../../wire/mqtt/v5/properties.ts'
import { ReasonCode } from '../../wire/mqtt/v5/reason.ts'
import { subscribed, unsubscribed } from './answers.ts'
import type { MqttPrincipal } from './authorizer.ts'
import type { ConnectionRequest } from './connecting.ts'
import type { CloseReason } from './counters.ts'
import { handOver } from './fanout.ts'
import type { MqttHost } from './host.ts'
import { Inbound } from './inbound.ts'
import { grantedOf, keptOf, leave } from './keeping.ts'
import type { Kept } from './keeping.ts'
import { storedMessage } from './message.ts'
import type { Subscriber } from './message.ts'
import { Outbox } from './outbox.ts'
import { Hold } from './reading.ts'
import type { Reading } from './reading.ts'
import type { RetainedFeed } from './retained.ts'
import { retainedTarget } from './retained-target.ts'
import { StoreWaits } from './store-waits.ts'
import { subscribeAll, unsubscribeAll } from './subscribing.ts'
import type { Terms } from './terms.ts'
import type { PacketWriter } from './writer.ts'

/** With its answer: some 3 us. */
const acknowledgementUnits = 6

/** What a session asks of its connection. */
export interface ConnectionControl {
  end(reason: CloseReason, detail: string, reasonCode?: number): void
  /** Something threw that must not: the session is over. */
  failed(thrown: unknown): void
  /** Much waits for the client. */
  congested(): void
}

/** What a session is made of. */
export interface OpenSessionOptions {
  readonly request: ConnectionRequest
  readonly principal: MqttPrincipal
  readonly address: string
  readonly writer: PacketWriter
  readonly reading: Reading
  /** Undefined: the session ends with the connection. */
  readonly handle: SessionHandle | undefined
  readonly control: ConnectionControl
}

/** A client that was let in, and its packets: what it publishes (`inbound`), what it subscribes to, what it is sent (`outbox`). */
export class OpenSession {
  readonly inbound: Inbound
  readonly outbox: Outbox
  readonly kept: Kept | undefined
  readonly #host: MqttHost
  readonly #principal: MqttPrincipal
  readonly #terms: Terms
  readonly #writer: PacketWriter
  readonly #reading: Reading
  readonly #control: ConnectionControl
  /** Retained messages that are due to it. */
  readonly #retained: RetainedFeed
  /** SUBACKs of filters that other processes do not know of yet. */
  #announcing: StoreWaits | undefined
  /** The client asked for its session to outlive the connection. */
  readonly #asksToStay: boolean
  /** As DISCONNECT changed it. */
  #expiryS: number | undefined
  /** Of a session that is kept the store has it. */
  #will: Will | Will5 | undefined
  /** The store's will is not to be published. */
  #discardsWill = false

  constructor(host: MqttHost, o: OpenSessionOptions) {
    const { request, principal, writer, reading, handle, control } = o
    const { terms } = request
    const { store } = host
    this.#host = host
    this.#principal = principal
    this.#terms = terms
    this.#writer = writer
    this.#reading = reading
    this.#control = control
    this.#asksToStay = (request.properties.sessionExpiryInterval ?? 0) > 0
    this.#will = handle === undefined ? request.will : undefined
    this.outbox = new Outbox(host, writer, terms, () => control.congested())
    if (handle !== undefined && store !== undefined) this.kept = keptOf(host, store, { handle, terms, outbox: this.outbox, writer, reading })
    const keep = { room: () => store?.overloaded !== true, kept: (message: SessionMessage) => host.kept.keep(message) }
    this.#retained = host.retained.open(
      principal.tenant,
      retainedTarget(this.subscriber, host.kept.outgoings, (thrown) => control.failed(thrown), this.kept === undefined ? undefined : keep),
    )
    this.inbound = new Inbound(
      host,
      { principal, terms, address: o.address, writer, self: this.subscriber, kept: this.kept },
      {
        pauseReading: () => reading.hold(Hold.inflight),
        resumeReading: () => reading.release(Hold.inflight),
        end: (reason, detail, reasonCode) => control.end(reason, detail, reasonCode),
        failed: (thrown) => control.failed(thrown),
      },
    )
  }

  /** Who gets its deliveries. */
  get subscriber(): Subscriber {
    return this.kept?.durable ?? this.outbox
  }

  get inflight(): number {
    return this.outbox.inflight + (this.kept?.deliveries.inflight ?? 0)
  }

  /** There may be room for the client again. */
  resume(): void {
    this.outbox.drained()
    this.kept?.deliveries.pull()
    this.#retained.resume()
  }

  /** The server stops; the device is as alive as before: its will would be wrong. */
  forgetWill(): void {
    this.#will = undefined
    this.#discardsWill = true
  }

  // --- packets ---

  /** A PUBLISH of so many bytes was read. */
  published(bytes: number): void {
    this.#reading.took(bytes)
  }

  acknowledged(type: AckType, packetId: number, reasonCode: number): void {
    this.#worked(acknowledgementUnits)
    if (type === PacketType.pubrel) return this.inbound.released(packetId)
    const deliveries = this.kept?.deliveries ?? this.outbox
    const fits =
      type === PacketType.puback
        ? deliveries.acknowledged(packetId)
        : type === PacketType.pubrec
          ? deliveries.received(packetId, reasonCode)
          : deliveries.completed(packetId)
    // In 3.1.1 a violation like any other [MQTT-4.8.0-1].
    if (!fits) return this.#control.end('protocol', 'An acknowledgement that is not the next one. [MQTT-4.3.3-4]')
    this.#retained.resume()
  }

  /** A packet that is answered takes its time, and a chunk holds thousands of them. */
  #worked(units: number): void {
    this.#host.effort.units += units
    this.#reading.worked()
  }

  subscribe(packetId: number, subscriptions: readonly (Subscription | Subscription5)[], identifier: number): void {
    const { codes, why } = subscribeAll(this.#host, this.#principal, this.subscriber, this.#retained, subscriptions, identifier)
    this.#reading.worked()
    const granted = grantedOf(subscriptions, codes, identifier)
    const answer = (): void => this.#answer(subscribed(this.#terms, packetId, codes, why))
    const ticket = this.#host.neighbours?.announcing ?? 0
    if (granted.length === 0) answer()
    else
      this.#once(
        (handle) => handle.subscribe(granted),
        () => this.#announced(ticket, answer),
      )
  }

  unsubscribe(packetId: number, filters: readonly string[]): void {
    const codes = unsubscribeAll(this.#host, this.#principal, this.subscriber, this.#retained, filters)
    this.#reading.worked()
    this.#once(
      (handle) => handle.unsubscribe(filters),
      () => this.#answer(unsubscribed(this.#terms, packetId, codes)),
    )
  }

  pingreq(): void {
    this.#worked(1)
    this.#writer.send(pingresp)
  }

  disconnect(reasonCode: number, properties: Properties | undefined): void {
    const expiryS = properties?.sessionExpiryInterval
    if ((expiryS ?? 0) > 0 && !this.#asksToStay) {
      return this.#control.end('protocol', 'A DISCONNECT lengthens a session that was to end with its connection. [section 3.14.2.2.2]')
    }
    // With any other reason it goes out [MQTT-3.14.4-3].
    if (reasonCode === ReasonCode.success) this.forgetWill()
    if (expiryS !== undefined) this.#expiryS = Math.min(expiryS, this.#host.limits.sessionExpirySMax)
    this.#control.end('client', 'The client disconnected.')
  }

  auth(): void {
    this.#control.end('protocol', 'An AUTH where no authentication method was agreed on. [MQTT-4.12.0-6]')
  }

  // --- its end ---

  /** The connection is over: the session is left as long as it is to stay, or ends. `handsOver`: others may have what it was given and did not get. */
  close(handsOver: boolean): void {
    const host = this.#host
    this.inbound.close()
    this.#retained.close()
    this.#announcing?.clear()
    const unfinished = handsOver ? this.outbox.unfinished() : []
    this.outbox.close()
    if (this.kept !== undefined) leave(host, this.kept, this.#expiryS, this.#discardsWill)
    else host.subscriptions(this.#principal.tenant).removeAll(this.outbox)
    if (unfinished.length === 0) return
    const { tenant } = this.#principal
    handOver(unfinished, this.outbox, (message, { bytes, payloadAt }) =>
      host.kept.keep(storedMessage(tenant, message.topic, message.qos, bytes.subarray(payloadAt), message, host.clock)),
    )
  }

  /** Behind everything else that the end of the connection is. */
  publishWill(): void {
    if (this.#will !== undefined) this.#host.wills.publish(this.#principal, this.#will)
    this.#will = undefined
  }

  /** Does something once a change of the session is durable; at once when it is not kept. */
  #once(change: (handle: SessionHandle) => number, then: () => void): void {
    if (this.kept === undefined) return then()
    const { handle, waits } = this.kept
    waits.push(() => change(handle), then)
  }

  /** Does something once the other processes know what was announced with the ticket; 0: they do. */
  #announced(ticket: number, then: () => void): void {
    const { neighbours, limits } = this.#host
    if (neighbours === undefined || ticket === 0) return then()
    this.#announcing ??= new StoreWaits(
      neighbours.ways,
      (waiting) => this.#host.wait(waiting),
      limits.receiveInflightMax,
      (full) => (full ? this.#reading.hold(Hold.routing) : this.#reading.release(Hold.routing)),
    )
    this.#announcing.push(() => ticket, then)
  }

  /** An answer that does not fit what the client takes is not sent [MQTT-3.1.2-24]. */
  #answer(bytes: Uint8Array | undefined): void {
    if (bytes !== undefined) this.#writer.send(bytes)
  }
}
