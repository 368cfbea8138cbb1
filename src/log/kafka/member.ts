import type { Env } from '../../core/env.ts'
import { limits } from '../../core/limits.ts'
import { sleep } from '../../core/pump.ts'
import type { KafkaTopic } from './cluster.ts'
import type { CommitAs, GroupCoordinator } from './coordinator.ts'
import { answered, is, unavailable } from './faults.ts'

export interface MemberSide {
  /** The group takes these away: once it resolves, nothing of them goes on here and what was acknowledged of them is committed. */
  revoked(partitions: readonly number[]): Promise<void>
  /** The group gives these: they are this member's from now on. */
  assigned(partitions: readonly number[]): void
  /** The group has gone on without this member: whatever it had is others'. */
  lost(): void
}

export type MemberCoordinator = Pick<GroupCoordinator, 'heartbeat' | 'leave'>

/**
 * A member of a group by KIP-848: the coordinator says which partitions it shall have; it lets go of what it shall no longer have, says so, and is given the
 * rest once their owners have done the same. So partitions move one at a time and nobody stops for it. The client's own member is not used: it does not
 * leave the group when its connection is not there at the moment, and never comes back once the coordinator has forgotten it (ADR 19).
 */
export class GroupMember {
  readonly #env: Env
  readonly #coordinator: MemberCoordinator
  readonly #topic: KafkaTopic
  readonly #side: MemberSide
  readonly #id: string
  readonly #stop = new AbortController()
  #epoch = 0
  /** The coordinator may have taken a join whose answer has not come. */
  #perhaps = false
  #owned = new Set<number>()
  #running: Promise<void> | undefined

  constructor(env: Env, coordinator: MemberCoordinator, topic: KafkaTopic, side: MemberSide) {
    this.#env = env
    this.#coordinator = coordinator
    this.#topic = topic
    this.#side = side
    this.#id = env.random.uuid()
  }

  /** Whom commits are made as; undefined: it is no member at the moment. */
  get as(): CommitAs | undefined {
    return this.#epoch > 0 ? { memberId: this.#id, epoch: this.#epoch } : undefined
  }

  /** Joins, and again whenever it was forgotten, until `leave`. */
  start(): void {
    this.#running ??= this.#run()
  }

  /** Resolves when the coordinator knows, so that it need not wait for the session's end; after some seconds without an answer anyway. */
  async leave(): Promise<void> {
    this.#stop.abort()
    await this.#running
    if (this.#epoch === 0 && !this.#perhaps) return
    this.#epoch = 0
    this.#owned.clear()
    const enough = AbortSignal.timeout(limits.kafkaLeaveMs)
    for (let waitMs = 50; !enough.aborted; waitMs *= 2) {
      try {
        await this.#coordinator.leave(this.#id)
        return
      } catch (thrown) {
        if (forgotten(thrown)) return
        await sleep(this.#env, waitMs, enough)
      }
    }
    this.#env.logger.warn('Kafka did not hear that a member leaves its group: its partitions wait for the end of its session', {
      topic: this.#topic.name,
    })
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop
    let failures = 0
    while (!signal.aborted) {
      let waitMs: number
      try {
        const answer = await this.#coordinator.heartbeat(this.#id, this.#epoch, this.#topic, [...this.#owned], limits.kafkaRebalanceMs)
        failures = 0
        this.#perhaps = false
        this.#epoch = answer.memberEpoch
        const changed = answer.assigned !== undefined && (await this.#follow(new Set(answer.assigned)))
        // The others wait for the news that a partition is free; who has none, for one.
        const { kafkaHeartbeatMs: often, kafkaIdleHeartbeatMs: oftener } = limits
        waitMs = changed ? 0 : Math.min(answer.heartbeatIntervalMs, this.#owned.size === 0 ? oftener : often)
      } catch (thrown) {
        waitMs = this.#failed(thrown, failures++)
      }
      await sleep(this.#env, waitMs, signal)
    }
  }

  /** True: what this member has is no longer what it has told. */
  async #follow(assigned: ReadonlySet<number>): Promise<boolean> {
    const revoked = [...this.#owned].filter((partition) => !assigned.has(partition))
    if (revoked.length > 0) {
      await this.#side.revoked(revoked)
      for (const partition of revoked) this.#owned.delete(partition)
    }
    const added = [...assigned].filter((partition) => !this.#owned.has(partition))
    if (added.length > 0) {
      for (const partition of added) this.#owned.add(partition)
      this.#side.assigned(added)
    }
    return revoked.length + added.length > 0
  }

  /** Returns how long to wait. */
  #failed(thrown: unknown, failures: number): number {
    const { kafkaRetryFirstMs: first, kafkaRetryMaxMs: max } = limits
    if (forgotten(thrown)) {
      // It joins again, with nothing, under the same name (KIP-848, "Member ID").
      this.#epoch = 0
      this.#owned.clear()
      this.#side.lost()
    }
    this.#perhaps = this.#epoch === 0 && !answered(thrown)
    const error = unavailable(thrown)
    this.#env.logger.warn('Kafka did not take the heartbeat of a member of a group', {
      code: error.code,
      topic: this.#topic.name,
      error: error.message,
    })
    return Math.min(max, first * 2 ** Math.min(failures, 10)) * (0.5 + this.#env.random.next() / 2)
  }
}

function forgotten(thrown: unknown): boolean {
  return is(thrown, 'FENCED_MEMBER_EPOCH', 'UNKNOWN_MEMBER_ID')
}
