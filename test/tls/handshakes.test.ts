import assert from 'node:assert/strict'
import { test } from 'node:test'
import { limits } from '../../src/core/limits.ts'
import { Metrics } from '../../src/core/metrics.ts'
import { HandshakeGate } from '../../src/doors/tls/handshakes.ts'
import { TestClock } from '../support/test-clock.ts'

function gateOf(perS: number): {
  clock: TestClock
  gate: HandshakeGate
  begun: string[]
  refused: string[]
  enter(peer: string, name?: string): () => void
} {
  const clock = new TestClock()
  const gate = new HandshakeGate(clock, perS, new Metrics())
  const [begun, refused]: [string[], string[]] = [[], []]
  return {
    clock,
    gate,
    begun,
    refused,
    enter: (peer, name = peer) =>
      gate.enter(
        peer,
        () => void begun.push(name),
        () => void refused.push(name),
      ),
  }
}

test('handshakes begin at once up to a tenth of a second’s worth, then at the rate', () => {
  const { clock, gate, begun, enter } = gateOf(100)
  for (let i = 0; i < 150; i++) enter('a')
  assert.deepEqual([begun.length, gate.waiting], [10, 140])
  clock.advance(250)
  assert.ok(begun.length >= 32 && begun.length <= 36, String(begun.length))
  clock.advance(1_300)
  assert.deepEqual([begun.length, gate.waiting, clock.timers], [150, 0, 0])
})

test('queues take turns: one address with a thousand connections delays another by one turn', () => {
  const { clock, begun, refused, enter } = gateOf(100)
  for (let i = 0; i < 1_111; i++) enter('flood')
  for (let i = 0; i < 5; i++) enter('device', `device ${i}`)
  assert.equal(refused.length, 101, 'half of the places are for the others')
  clock.advance(200)
  assert.equal(begun.filter((name) => name.startsWith('device')).length, 5)
  assert.ok(begun.filter((name) => name === 'flood').length <= 10 + 20)
})

test('the queue is bounded, what waits too long is refused, and who leaves takes no turn', () => {
  const { clock, gate, begun, refused, enter } = gateOf(1)
  const leave = [...Array(limits.tlsWaitingMax + 11).keys()].map((i) => enter(`peer ${i}`))
  assert.deepEqual([begun.length, gate.waiting, refused.length], [1, limits.tlsWaitingMax, 10])
  leave[1]!()
  leave[1]!()
  leave[0]!()
  assert.equal(gate.waiting, limits.tlsWaitingMax - 1)
  clock.advance(1_100)
  assert.deepEqual(begun, ['peer 0', 'peer 2'])
  clock.advance(limits.tlsHandshakeTimeoutMs + 100)
  assert.equal(gate.waiting, 0)
  assert.ok(begun.length <= 12 && begun.length + refused.length === limits.tlsWaitingMax + 10, `${begun.length} ${refused.length}`)
})
