import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import type { Interest, RoutedMessage, Routing } from '../../src/core/routing.ts'
import { eventually } from '../support/api.ts'

/** A way between processes that nobody has joined when the suite gets it. */
export interface RoutingUnderTest {
  /** One more process; `pendingMax`: messages under way to others that make it overloaded. */
  open(node: string, pendingMax?: number): Routing
  close(): Promise<void>
}

const text = (message: RoutedMessage): string => Buffer.from(message.payload).toString()

function messageOf(payload: string, o: Partial<RoutedMessage> = {}): RoutedMessage {
  const message = { tenant: 'default', topic: 'a/b', qos: 1, retain: false, payload: Buffer.from(payload) } as const
  return { ...message, properties: new Uint8Array(0), expiresUs: Number.POSITIVE_INFINITY, ...o }
}

const interest = (filter: string, tenant = 'default'): Interest => ({ tenant, filter })

/** A process, and what it was told, in words. */
class Process {
  readonly told: string[] = []
  readonly got: { readonly message: RoutedMessage; readonly share: string | undefined }[] = []
  /** What `deliver` answers with. */
  keeps: () => Promise<void> | undefined = () => undefined
  readonly routing: Routing

  constructor(routing: Routing) {
    this.routing = routing
  }

  async join(): Promise<this> {
    const note = (what: string, node: string, { tenant, filter }: Interest): void => void this.told.push(`${what} ${node} ${tenant} ${filter}`)
    await this.routing.join({
      interested: (node, what) => note('+', node, what),
      withdrawn: (node, what) => note('-', node, what),
      gone: (node) => void this.told.push(`gone ${node}`),
      deliver: (message, share) => {
        // Lent for the call.
        const { payload, properties } = message
        this.got.push({ message: { ...message, payload: new Uint8Array(payload), properties: new Uint8Array(properties) }, share })
        return this.keeps()
      },
    })
    return this
  }

  async hears(...what: readonly string[]): Promise<void> {
    await eventually(() => Promise.resolve(what.every((one) => this.told.includes(one)) ? true : undefined)).catch(() =>
      assert.fail(`told ${this.told.join(', ')}; not ${what.join(', ')}`),
    )
  }

  safe(ticket: number): Promise<true> {
    return eventually(() => Promise.resolve(this.routing.durable >= ticket ? true : undefined))
  }

  async has(count: number): Promise<string[]> {
    await eventually(() => Promise.resolve(this.got.length >= count ? true : undefined))
    return this.got.map(({ message }) => text(message))
  }
}

/** What every adapter of Routing does. */
export function routingContract(name: string, open: () => Promise<RoutingUnderTest>): void {
  describe(`routing, ${name}`, () => {
    let under: RoutingUnderTest
    let one: Process
    let other: Process
    beforeEach(async () => {
      under = await open()
      one = await new Process(under.open('one')).join()
      other = await new Process(under.open('other')).join()
    })
    afterEach(() => under.close())

    test('each is told what the others are interested in, and never its own', async () => {
      await one.safe(one.routing.announce(interest('a/#')))
      one.routing.announce(interest('$share/g/a/+'))
      other.routing.announce(interest('b', 'else'))
      await other.hears('+ one default a/#', '+ one default $share/g/a/+')
      await one.hears('+ other else b')
      one.routing.withdraw(interest('a/#'))
      await other.hears('- one default a/#')

      const late = new Process(under.open('late'))
      // Before it takes part.
      late.routing.announce(interest('c'))
      await late.join()
      assert.deepEqual(late.told.toSorted(), ['+ one default $share/g/a/+', '+ other else b'], 'what there is, before `join` resolves')
      await one.hears('+ late default c')
      await other.hears('+ late default c')
      one.routing.withdraw(interest('never/there'))
      one.routing.announce(interest('$share/g/a/+'))
      one.routing.announce(interest('last'))
      await other.hears('+ one default last')
      assert.ok([one, other, late].every(({ told, routing }) => told.every((line) => line.split(' ')[1] !== routing.node)))
      assert.ok(!other.told.some((line) => line.includes('never/there')))
    })

    test('an announcement is in effect once its ticket is durable', async () => {
      await one.safe(one.routing.announce(interest('a')))
      assert.ok(other.told.includes('+ one default a'))
    })

    test('a message comes as it was, to the process that was named and to no other', async () => {
      const third = await new Process(under.open('third')).join()
      const message = messageOf('', {
        tenant: 'else',
        topic: 'ä/ /$x',
        qos: 2,
        retain: true,
        payload: Uint8Array.from({ length: 70_000 }, (_, i) => i % 256),
        properties: Uint8Array.of(1, 1, 2, 0, 0, 0, 9),
        expiresUs: 1_790_000_000_000_001,
      })
      one.routing.publish({ node: 'other' }, message)
      await one.safe(one.routing.publish({ node: 'other', share: '$share/g/ä/#' }, messageOf('x', { qos: 0 })))
      await other.has(2)
      const { payload, properties, ...rest } = message
      const [first, second] = other.got
      const { payload: gotPayload, properties: gotProperties, ...gotRest } = first!.message
      assert.deepEqual([gotRest, first!.share], [rest, undefined])
      assert.deepEqual([Buffer.compare(payload, gotPayload), Buffer.compare(properties, gotProperties)], [0, 0])
      assert.deepEqual([text(second!.message), second!.message.qos, second!.share], ['x', 0, '$share/g/ä/#'])
      one.routing.publish({ node: 'one' }, messageOf('to itself'))
      await one.safe(one.routing.publish({ node: 'nobody' }, messageOf('to nobody')))
      await one.safe(one.routing.publish({ node: 'third' }, messageOf('last')))
      assert.deepEqual(await third.has(1), ['last'])
      assert.deepEqual([one.got.length, other.got.length], [0, 2])
    })

    test('a message is lent: what happens to its bytes behind the call changes nothing', async () => {
      const payload = Buffer.from('as it was')
      const properties = Buffer.from('as well')
      one.routing.publish({ node: 'other' }, messageOf('', { payload, properties }))
      payload.fill(0)
      properties.fill(0)
      assert.deepEqual(await other.has(1), ['as it was'])
      assert.equal(Buffer.from(other.got[0]!.message.properties).toString(), 'as well')
    })

    test('what one process publishes for another comes in that order', async () => {
      const third = await new Process(under.open('third')).join()
      const all = Array.from({ length: 1_000 }, (_, i) => String(i))
      for (const n of all) {
        one.routing.publish({ node: 'third', ...(Number(n) % 3 === 0 ? { share: '$share/g/a' } : {}) }, messageOf(`one ${n}`))
        other.routing.publish({ node: 'third' }, messageOf(`other ${n}`))
        one.routing.publish({ node: 'other' }, messageOf(n))
      }
      assert.deepEqual(await other.has(1_000), all)
      const got = await third.has(2_000)
      for (const from of ['one', 'other'])
        assert.deepEqual(
          got.filter((line) => line.startsWith(`${from} `)),
          all.map((n) => `${from} ${n}`),
        )
    })

    test('tickets only grow, and `onDurable` tells of them', async () => {
      const seen: number[] = []
      const stop = one.routing.onDurable((durable) => seen.push(durable))
      const tickets = Array.from({ length: 50 }, (_, i) => one.routing.publish({ node: 'other' }, messageOf(String(i))))
      assert.ok(tickets.every((ticket, i) => ticket > 0 && (i === 0 || ticket >= tickets[i - 1]!)))
      await one.safe(tickets.at(-1)!)
      assert.deepEqual(
        seen,
        seen.toSorted((a, b) => a - b),
      )
      assert.ok(seen.at(-1)! >= tickets.at(-1)!)
      stop()
      const before = seen.length
      await one.safe(one.routing.publish({ node: 'other' }, messageOf('after')))
      assert.equal(seen.length, before)
      await other.has(51)
    })

    test('a process that ends is gone for the others, once; one of its name begins anew', async () => {
      one.routing.announce(interest('a'))
      await other.hears('+ one default a')
      one.keeps = () => new Promise(() => undefined)
      const unsafe = other.routing.publish({ node: 'one' }, messageOf('on its way'))
      await one.has(1)
      await one.routing.close()
      await other.hears('gone one')
      await other.safe(unsafe)
      await other.safe(other.routing.publish({ node: 'one' }, messageOf('too late')))
      assert.equal(one.got.length, 1)
      other.told.length = 0
      const again = await new Process(under.open('one')).join()
      again.routing.announce(interest('b'))
      await other.hears('+ one default b')
      assert.ok(!other.told.includes('+ one default a'))
      await other.safe(other.routing.publish({ node: 'one' }, messageOf('hello')))
      assert.deepEqual(await again.has(1), ['hello'])
    })

    test('a process that does not get its messages safe makes those who publish to it hold back', async () => {
      const narrow = await new Process(under.open('narrow', 3)).join()
      const waiting: (() => void)[] = []
      other.keeps = () => new Promise((resolve) => void waiting.push(resolve))
      let ticket = 0
      for (let i = 0; i < 3; i++) {
        assert.equal(narrow.routing.overloaded, false)
        ticket = narrow.routing.publish({ node: 'other' }, messageOf(String(i)))
      }
      assert.equal(narrow.routing.overloaded, true)
      let ended = false
      narrow.routing.onDurable(() => void (ended ||= !narrow.routing.overloaded))
      await other.has(1)
      await eventually(() => {
        for (const safe of waiting.splice(0)) safe()
        return Promise.resolve(narrow.routing.durable >= ticket ? true : undefined)
      })
      assert.equal(narrow.routing.overloaded, false)
      assert.ok(ended)
      assert.deepEqual(await other.has(3), ['0', '1', '2'])
    })
  })
}
