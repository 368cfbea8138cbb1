import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ProtocolError } from '@platformatic/kafka'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import type { HeartbeatAnswer } from '../../src/log/kafka/coordinator.ts'
import { GroupMember, type MemberCoordinator } from '../../src/log/kafka/member.ts'

const topic = { name: 't', id: 'life', partitions: 4 }

interface Heartbeat {
  readonly memberId: string
  readonly epoch: number
  readonly owned: readonly number[]
}

/** A coordinator that gives the answers of a script, one for each heartbeat, and then the last one for ever. */
class Script implements MemberCoordinator {
  readonly heartbeats: Heartbeat[] = []
  readonly left: string[] = []
  leaveFaults = 0
  readonly #answers: (HeartbeatAnswer | string)[]
  readonly #waiting: { readonly count: number; readonly resolve: () => void }[] = []

  constructor(...answers: (HeartbeatAnswer | string)[]) {
    this.#answers = answers
  }

  async heartbeat(memberId: string, epoch: number, _topic: typeof topic, owned: readonly number[]): Promise<HeartbeatAnswer> {
    this.heartbeats.push({ memberId, epoch, owned: owned.toSorted() })
    for (const { count, resolve } of this.#waiting) if (this.heartbeats.length >= count) resolve()
    const answer = this.#answers[Math.min(this.heartbeats.length, this.#answers.length) - 1]!
    // An answer takes its time: what is not waited for goes on meanwhile.
    await new Promise((resolve) => setTimeout(resolve, 1))
    if (typeof answer === 'string') throw answer.includes(' ') ? new Error(answer) : new ProtocolError(answer)
    return answer
  }

  async leave(memberId: string): Promise<void> {
    await Promise.resolve()
    if (this.leaveFaults-- > 0) throw new Error('the connection was reset')
    this.left.push(memberId)
  }

  /** Resolves with the heartbeats once there are so many. */
  async after(count: number): Promise<readonly Heartbeat[]> {
    if (this.heartbeats.length < count) await new Promise<void>((resolve) => this.#waiting.push({ count, resolve }))
    return this.heartbeats
  }
}

const given = (memberEpoch: number, ...assigned: readonly number[]): HeartbeatAnswer => ({ memberEpoch, heartbeatIntervalMs: 5, assigned })

/** A member, and what it is told. */
function member(script: Script, revoked: (partitions: readonly number[]) => Promise<void> = () => Promise.resolve()) {
  const events: string[] = []
  const side = {
    assigned: (partitions: readonly number[]) => void events.push(`assigned ${partitions.join()}`),
    revoked: async (partitions: readonly number[]) => {
      await revoked(partitions)
      events.push(`revoked ${partitions.join()} at ${script.heartbeats.length}`)
    },
    lost: () => void events.push('lost'),
  }
  return { events, one: new GroupMember(nodeEnv(silentLogger), script, topic, side) }
}

void describe('a member of a Kafka group', { timeout: 20_000 }, () => {
  test('joins with nothing, and tells what it has been given', async () => {
    const script = new Script(given(1, 0, 1), given(1, 0, 1))
    const { one, events } = member(script)
    one.start()
    const [first, second] = await script.after(2)
    await one.leave()
    assert.deepEqual([first?.epoch, first?.owned], [0, []])
    assert.deepEqual([second?.epoch, second?.owned], [1, [0, 1]])
    assert.equal(first?.memberId, second?.memberId)
    assert.deepEqual(events, ['assigned 0,1'])
    assert.deepEqual(script.left, [first?.memberId])
  })

  test('says that a partition is free only when nothing of it goes on', async () => {
    let release = (): void => undefined
    const held = new Promise<void>((resolve) => (release = resolve))
    const script = new Script(given(1, 0, 1), given(2, 1), given(2, 1, 3))
    const { one, events } = member(script, () => held)
    one.start()
    await script.after(2)
    await new Promise((resolve) => setTimeout(resolve, 30))
    assert.equal(script.heartbeats.length, 2, 'it waits for the side that reads')
    release()
    const third = (await script.after(4))[2]
    await one.leave()
    assert.deepEqual([third?.epoch, third?.owned], [2, [1]])
    assert.deepEqual(events, ['assigned 0,1', 'revoked 0 at 2', 'assigned 3'])
  })

  for (const code of ['UNKNOWN_MEMBER_ID', 'FENCED_MEMBER_EPOCH']) {
    test(`joins again with nothing after ${code}`, async () => {
      const script = new Script(given(7, 0, 1), code, given(9, 2), given(9, 2))
      const { one, events } = member(script)
      one.start()
      const [, , third, fourth] = await script.after(4)
      assert.deepEqual(one.as, { memberId: third!.memberId, epoch: 9 })
      await one.leave()
      assert.deepEqual([third?.epoch, third?.owned], [0, []])
      assert.deepEqual([fourth?.epoch, fourth?.owned], [9, [2]])
      assert.deepEqual(events, ['assigned 0,1', 'lost', 'assigned 2'])
    })
  }

  test('keeps what it has while the coordinator does not answer', async () => {
    const script = new Script(given(1, 0), 'COORDINATOR_NOT_AVAILABLE', 'NOT_COORDINATOR', given(1, 0))
    const { one, events } = member(script)
    one.start()
    const fourth = (await script.after(4))[3]
    await one.leave()
    assert.deepEqual([fourth?.epoch, fourth?.owned], [1, [0]])
    assert.deepEqual(events, ['assigned 0'])
  })

  test('is no member while it joins, and leaves nothing that it has not joined', async () => {
    const script = new Script('COORDINATOR_NOT_AVAILABLE')
    const { one } = member(script)
    one.start()
    await script.after(1)
    assert.equal(one.as, undefined)
    await one.leave()
    assert.deepEqual(script.left, [])
  })

  test('leaves too when nobody knows whether it has joined', async () => {
    const script = new Script('the connection was reset')
    const { one } = member(script)
    one.start()
    await script.after(1)
    await one.leave()
    assert.equal(script.left.length, 1)
  })

  test('says again that it leaves when nobody has heard it', async () => {
    const script = new Script(given(1, 0))
    script.leaveFaults = 2
    const { one } = member(script)
    one.start()
    await script.after(2)
    await one.leave()
    assert.equal(script.left.length, 1)
    assert.equal(one.as, undefined)
  })
})
