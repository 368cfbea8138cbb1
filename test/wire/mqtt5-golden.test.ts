import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ClientFramer } from '../../src/wire/mqtt/client.ts'
import { Framer } from '../../src/wire/mqtt/framer.ts'
import { hex } from '../mqtt/client-packets.ts'
import type { Golden } from './mqtt5-corpus.ts'
import { corpus } from './mqtt5-corpus.ts'
import type { ReadOptions } from './mqtt5-recorder.ts'
import { bytes, hello5, read, Recorder } from './mqtt5-recorder.ts'

const sidesOf = ({ from }: Golden): readonly ReadOptions['from'][] => (from === 'both' ? ['client', 'server'] : [from])

for (const golden of corpus) {
  test(`MQTT ${golden.level === 4 ? '3.1.1' : '5'}: ${golden.name}`, () => {
    const packet = bytes(golden.bytes)
    assert.equal(packet[1], packet.length - 2, 'the table itself is right')
    for (const from of sidesOf(golden)) {
      const expected = { events: [golden.event], violation: undefined }
      const o = { from, level: golden.level }
      assert.deepEqual(read([packet], o), expected)
      for (let cut = 1; cut < packet.length; cut++)
        assert.deepEqual(read([packet.subarray(0, cut), packet.subarray(cut)], o), expected, `cut at ${cut}`)
      assert.deepEqual(
        read(
          Array.from(packet, (byte) => Uint8Array.of(byte)),
          o,
        ),
        expected,
        'byte by byte',
      )
    }
    if (golden.encode !== undefined) assert.equal(hex(golden.encode()), hex(packet))
  })
}

test('every packet, one after the other, cut at every byte', () => {
  for (const level of [4, 5] as const) {
    for (const from of ['client', 'server'] as const) {
      const packets = corpus.filter((g) => g.level === level && sidesOf(g).includes(from) && !(level === 5 && g.name.startsWith('CONNECT,')))
      const stream = Buffer.concat(packets.map((g) => bytes(g.bytes)))
      const o = { from, level }
      const whole = read([stream], o)
      assert.equal(whole.violation, undefined)
      assert.deepEqual(
        whole.events,
        packets.map((g) => g.event),
      )
      for (let cut = 1; cut < stream.length; cut++) assert.deepEqual(read([stream.subarray(0, cut), stream.subarray(cut)], o), whole)
    }
  }
})

test('the CONNECT decides what is spoken, where both are', () => {
  const levelAfter = (packet: Uint8Array, sink5?: Recorder): number => {
    const framer = new Framer(new Recorder(), 1000, sink5)
    assert.equal(framer.level, 0)
    assert.equal(framer.push(packet, 0, packet.length), undefined)
    return framer.level
  }
  const [connect, older] = corpus.map((g) => bytes(g.bytes))
  assert.ok(connect !== undefined && older !== undefined)
  assert.deepEqual([levelAfter(connect, new Recorder()), levelAfter(older, new Recorder()), levelAfter(hello5, new Recorder())], [4, 3, 5])
  assert.equal(levelAfter(hello5), 0)
  assert.equal(new ClientFramer(new Recorder(), 1000).level, 0)
  assert.equal(new ClientFramer(new Recorder(), 1000, new Recorder()).level, 5)
  const four = corpus.filter((g) => g.level === 4 && g.from !== 'server' && g.name !== 'CONNECT 3.1')
  const { events, violation } = read([Buffer.concat(four.map((g) => bytes(g.bytes)))], { from: 'client', level: 5 })
  assert.equal(violation, undefined)
  assert.deepEqual(
    events,
    four.map((g) => g.event),
  )
})
