import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createRoutingHub, type RoutingHub } from '../../src/log/in-process/routing.ts'
import { routingContract } from '../contract/routing.ts'

routingContract('in one process', () => {
  const opened: ReturnType<RoutingHub['member']>[] = []
  // Members of one hub differ in nothing but what makes them overloaded.
  const hub = createRoutingHub()
  return Promise.resolve({
    open(node, pendingMax) {
      const member = hub.member(node, pendingMax)
      opened.push(member)
      return member
    },
    close: async () => {
      for (const member of opened) await member.close()
    },
  })
})

test('a message is safe only once its process has it safe, and what came before it', async () => {
  const hub = createRoutingHub()
  const from = hub.member('from')
  const to = hub.member('to')
  const nothing = { interested: () => undefined, withdrawn: () => undefined, gone: () => undefined }
  await from.join({ ...nothing, deliver: () => undefined })
  const waiting: { readonly resolve: () => void; readonly reject: (why: Error) => void }[] = []
  await to.join({ ...nothing, deliver: () => new Promise<void>((resolve, reject) => void waiting.push({ resolve, reject })) })
  const message = { tenant: 't', topic: 'a', qos: 1, retain: false, payload: Buffer.from('x'), properties: Buffer.alloc(0), expiresUs: 1 } as const
  const [first, second, third] = [1, 2, 3].map(() => from.publish({ node: 'to' }, message))
  await new Promise(setImmediate)
  assert.equal(waiting.length, 3)
  waiting[1]!.resolve()
  await new Promise(setImmediate)
  assert.ok(from.durable < first!)
  waiting[0]!.resolve()
  await new Promise(setImmediate)
  assert.equal(from.durable, second)
  waiting[2]!.reject(new Error('its disk has failed'))
  await new Promise(setImmediate)
  assert.ok(from.durable < third!, 'its publisher is not answered')
  await to.close()
  assert.equal(from.durable, third, 'nobody is there any more for whom it would be kept')
  assert.throws(() => hub.member('from'), RangeError)
})
