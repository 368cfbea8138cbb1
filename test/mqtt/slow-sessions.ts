import assert from 'node:assert/strict'
import { setImmediate as turn } from 'node:timers/promises'
import { KymoError } from '../../src/core/errors.ts'
import type {
  AttachOptions,
  DueWill,
  LeftDelivery,
  Publication,
  SessionFigures,
  SessionHandle,
  SessionLimits,
  SessionMessage,
  SessionRef,
  SessionStore,
  StoredSession,
} from '../../src/core/session-store.ts'
import type { MqttLimits } from '../../src/doors/mqtt/limits.ts'
import { encodeConnect5 } from '../../src/wire/mqtt/v5/connect.ts'
import type { ConnectFields5 } from '../../src/wire/mqtt/v5/connect.ts'
import { ModelSessions } from '../support/model-sessions.ts'
import { Client5 } from './client5.ts'
import { World } from './harness.ts'

/** The model of the session store, where things become durable when the test says so. Overloaded, or failing, when it says so. */
export class SlowSessions implements SessionStore {
  readonly model: ModelSessions
  overloaded = false
  failsWith: KymoError | undefined
  losesWrites = false
  durable = 0
  readonly stalled = undefined
  readonly #listeners = new Set<(durable: number) => void>()

  constructor(nowUs: () => number, limits: Partial<SessionLimits> = {}) {
    this.model = new ModelSessions(nowUs, limits)
  }
  get unretained(): boolean {
    return this.model.unretained
  }
  async attach(tenant: string, client: string, o: AttachOptions): Promise<SessionHandle> {
    if (this.failsWith !== undefined) throw this.failsWith
    const handle = await this.model.attach(tenant, client, o)
    return {
      ...handle,
      subscribe: (subscriptions) => (this.overloaded ? 0 : handle.subscribe(subscriptions)),
      accept: (packetId) => (this.overloaded ? 0 : handle.accept(packetId)),
    }
  }
  end(tenant: string, client: string): Promise<boolean> {
    return this.model.end(tenant, client)
  }
  sessions(): AsyncIterable<StoredSession> {
    return this.model.sessions()
  }
  publish(publication: Publication): number {
    if (this.failsWith !== undefined) throw this.failsWith
    return this.overloaded ? 0 : this.model.publish(publication)
  }
  retained(tenant: string, filter: string): AsyncIterable<readonly SessionMessage[]> {
    return this.model.retained(tenant, filter)
  }
  onWill(listener: (will: DueWill) => void): void {
    this.model.onWill(listener)
  }
  onEnded(listener: (session: SessionRef, left: readonly LeftDelivery[]) => void): () => void {
    return this.model.onEnded(listener)
  }
  onDurable(listener: (durable: number) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }
  async whenDurable(): Promise<void> {
    if (this.losesWrites) throw new KymoError('store_unavailable')
  }
  figures(): SessionFigures {
    return this.model.figures()
  }
  close(): Promise<void> {
    return this.model.close()
  }
  /** All changes reached the disk. */
  sync(): void {
    this.durable = this.model.durable
    for (const listener of this.#listeners) listener(this.durable)
  }
}

/** A world whose broker has a session store, another's when it is given: the server has started anew. */
export function storedWorld(limits: Partial<MqttLimits> = {}, before?: SlowSessions): { readonly world: World; readonly store: SlowSessions } {
  const store: SlowSessions = before ?? new SlowSessions(() => world.clock.nowUs())
  const world: World = new World(limits, { store })
  return { world, store }
}

/** A client whose session is to stay; its CONNACK comes when the session is durable. */
export async function stay(world: World, store: SlowSessions, clientId: string, o: Partial<ConnectFields5> = {}): Promise<Client5> {
  const client = new Client5(world.line())
  client.send(encodeConnect5({ clientId, clean: false, keepAliveS: 0, properties: { sessionExpiryInterval: 100 }, ...o }))
  await attached(store)
  client.read()
  assert.equal(client.answer?.reasonCode, 0)
  return client
}

/** The store has answered those who asked for a session. */
export async function attached(store: SlowSessions): Promise<void> {
  await turn()
  store.sync()
  await turn()
}

/** Lets retained messages be read and sent: pages are read in turns of the event loop, and sent in turns of the clock. */
export async function feed(world: World, turns = 6): Promise<void> {
  for (let i = 0; i < turns; i++) {
    await turn()
    world.clock.advance(1)
  }
  world.turn()
}
