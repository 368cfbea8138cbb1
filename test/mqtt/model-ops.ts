import fc from 'fast-check'
import { neverExpires } from '../../src/core/session-store.ts'

export type Qos = 0 | 1 | 2

export interface WillOp {
  readonly qos: Qos
  readonly retain: boolean
  readonly delayS: number
}

export interface ConnectOp {
  readonly kind: 'connect'
  readonly client: number
  readonly five: boolean
  readonly clean: boolean
  readonly expiryS: number
  /** 0: none is given. */
  readonly receiveMaximum: number
  readonly aliases: number
  readonly will: WillOp | undefined
}

export interface SubscribeOp {
  readonly kind: 'subscribe'
  readonly client: number
  readonly filter: string
  readonly qos: Qos
  readonly noLocal: boolean
  readonly retainAsPublished: boolean
  readonly retainHandling: 0 | 1 | 2
  /** 0: none. */
  readonly identifier: number
}

export interface PublishOp {
  readonly kind: 'publish'
  readonly client: number
  readonly topic: string
  readonly qos: Qos
  readonly retain: boolean
  readonly empty: boolean
  /** 0: none. */
  readonly expiryS: number
}

/** One step of a script. What it refers to is chosen modulo what there is, so that any part of a script is a script. */
export type Op = (
  | ConnectOp
  | SubscribeOp
  | PublishOp
  | { readonly kind: 'hangUp'; readonly client: number }
  /** `expiryS` -1: as it was. */
  | { readonly kind: 'disconnect'; readonly client: number; readonly keepsWill: boolean; readonly expiryS: number }
  | { readonly kind: 'unsubscribe'; readonly client: number; readonly filter: string }
  /** Acknowledges some of what came, one step each: PUBACK, PUBREC, PUBCOMP. */
  | { readonly kind: 'acknowledge'; readonly client: number; readonly first: number; readonly count: number; readonly refuse: boolean }
  | { readonly kind: 'resend'; readonly client: number; readonly which: number }
  | { readonly kind: 'release'; readonly client: number; readonly which: number }
  | { readonly kind: 'pass'; readonly seconds: number }
  | { readonly kind: 'restart' }
) & {
  /** The next step follows before the server has had time for anything. */
  readonly quick: boolean
}

export const clients = 3
export const topics = ['a', 'a/b', 'a/c', 'b', 'devices/d1/telemetry']
const filters = [
  'a',
  'a/b',
  'a/+',
  'a/#',
  '#',
  '+/b',
  '+',
  'will/+',
  'devices/+/telemetry',
  '$share/g/a/b',
  '$share/g/a/#',
  '$share/h/a/+',
  '$share/g/a',
  '$share/w/will/+',
]

const client = fc.nat(clients - 1)
const qos = fc.constantFrom<Qos>(0, 1, 2)
const flag = fc.boolean()
const quick = fc.boolean()
const will = fc.record({ qos, retain: flag, delayS: fc.constantFrom(0, 10, 60) })

const connect: fc.Arbitrary<Op> = fc.record({
  kind: fc.constant('connect' as const),
  client,
  five: fc.integer({ min: 0, max: 2 }).map((n) => n > 0),
  clean: fc.integer({ min: 0, max: 3 }).map((n) => n === 3),
  expiryS: fc.constantFrom(0, 30, 100, neverExpires),
  receiveMaximum: fc.constantFrom(0, 0, 1, 2, 5),
  aliases: fc.constantFrom(0, 3),
  will: fc.option(will, { nil: undefined }),
  quick,
})
const subscribe: fc.Arbitrary<Op> = fc
  .record({
    kind: fc.constant('subscribe' as const),
    client,
    filter: fc.constantFrom(...filters),
    qos,
    noLocal: flag,
    retainAsPublished: flag,
    retainHandling: fc.constantFrom(0 as const, 1 as const, 2 as const),
    identifier: fc.constantFrom(0, 1, 2),
    quick,
  })
  // A shared subscription with No Local is a protocol error [MQTT-3.8.3-4].
  .map((op) => ({ ...op, noLocal: op.noLocal && !op.filter.startsWith('$share/') }))
const publish: fc.Arbitrary<Op> = fc
  .record({
    kind: fc.constant('publish' as const),
    client,
    topic: fc.constantFrom(...topics),
    qos,
    retain: fc.integer({ min: 0, max: 3 }).map((n) => n === 3),
    empty: fc.integer({ min: 0, max: 9 }).map((n) => n === 9),
    expiryS: fc.constantFrom(0, 0, 20, 50),
    quick,
  })
  // Messages without bytes look alike: they only clear what is retained, where no group takes them.
  .map((op) => (op.empty ? { ...op, topic: 'b', retain: true } : op))

const op: fc.Arbitrary<Op> = fc.oneof(
  { weight: 6, arbitrary: connect },
  { weight: 6, arbitrary: subscribe },
  { weight: 14, arbitrary: publish },
  {
    weight: 10,
    arbitrary: fc.record({
      kind: fc.constant('acknowledge' as const),
      client,
      first: fc.nat(5),
      count: fc.integer({ min: 1, max: 6 }),
      refuse: fc.integer({ min: 0, max: 9 }).map((n) => n === 9),
      quick,
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('hangUp' as const), client, quick }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('disconnect' as const), client, keepsWill: flag, expiryS: fc.constantFrom(-1, -1, 0, 30), quick }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('unsubscribe' as const), client, filter: fc.constantFrom(...filters), quick }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('resend' as const), client, which: fc.nat(5), quick }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('release' as const), client, which: fc.nat(5), quick }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('pass' as const), seconds: fc.constantFrom(3, 8, 23, 41, 110), quick: fc.constant(false) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const), quick: fc.constant(false) }) },
)

const many = (maxLength: number): fc.ArrayConstraints => ({ maxLength, size: 'max' })

/** Begins with clients that have subscriptions: what follows then means something. */
export const script: fc.Arbitrary<Op[]> = fc
  .tuple(fc.array(connect, many(4)), fc.array(subscribe, many(6)), fc.array(op, many(60)))
  .map(([connects, subscribes, rest]) => [...connects, ...subscribes, ...rest])
