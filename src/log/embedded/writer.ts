import type { Env, Timer } from '../../core/env.ts'
import { asKymoError, fromPlainError, KymoError, type PlainError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { LogRecord } from '../../core/record.ts'
import { BatchEncoder } from '../../wire/batch/encode.ts'
import type { LogMetrics } from './metrics.ts'
import type { Answer, EngineSettings, Job, Link, TopicState, WriteOp } from './protocol.ts'
import { CycleBuffer, TopicWriter, type TopicMark } from './topic-writer.ts'

const bufferBytesFirst = 512 * 1024
/** How often groups are made durable and retention looks round. */
const housekeepMs = 1000

interface Waiting {
  readonly records: readonly LogRecord[]
  readonly signal: AbortSignal
  readonly resolve: () => void
  readonly reject: (error: KymoError) => void
}

export interface WriterOptions {
  readonly link: Link
  readonly env: Env
  readonly settings: EngineSettings
  readonly metrics: LogMetrics
  /** Something became durable or was deleted: readers of this thread look again. */
  readonly wake: () => void
  readonly fatal: (error: KymoError) => void
}

/**
 * Group commit: one cycle (encode, write, fsync) is under way at a time, and all writes that come meanwhile go into the next. Records
 * are encoded when their cycle begins, so that offsets, segments and dictionaries follow what the disk has really kept.
 */
export class LogWriter {
  readonly topics = new Map<string, TopicWriter>()
  readonly #o: WriterOptions
  readonly #encoder = new BatchEncoder()
  readonly #buffer = new CycleBuffer(bufferBytesFirst)
  #id = ''
  #queue: Waiting[] = []
  #busy = false
  #scheduled = false
  #housekeepDue = false
  #timer: Timer | undefined
  #stopped: KymoError | undefined
  #closing: (() => void) | undefined

  constructor(o: WriterOptions) {
    this.#o = o
  }

  async open(newId: string): Promise<string> {
    const answer = await this.#o.link.call({ type: 'open', id: newId })
    this.#log(answer)
    if (answer.error !== undefined) throw fromPlainError(answer.error)
    this.#id = answer.id ?? newId
    this.#adopt(answer.topics)
    this.#arm()
    return this.#id
  }

  write(records: readonly LogRecord[], signal: AbortSignal): Promise<void> {
    if (this.#stopped !== undefined) return Promise.reject(this.#stopped)
    if (records.length === 0) return Promise.resolve()
    return new Promise((resolve, reject) => {
      this.#queue.push({ records, signal, resolve, reject })
      this.#schedule()
    })
  }

  /** Writes what waits, makes groups durable, ends the thread. */
  async close(): Promise<void> {
    const failed = this.#stopped !== undefined
    this.#stopped ??= new KymoError('shutting_down')
    this.#timer?.cancel()
    try {
      if (failed) return
      await new Promise<void>((resolve) => {
        this.#closing = resolve
        this.#schedule()
      })
      this.#log(await this.#o.link.call({ type: 'close' }))
    } finally {
      await this.#o.link.end()
    }
  }

  topic(name: string): TopicWriter {
    let topic = this.topics.get(name)
    if (topic === undefined) {
      const settings = this.#o.settings.topics[name] ?? this.#o.settings.otherTopics
      topic = new TopicWriter(name, settings, () => this.#id, this.#o.env.random.next() * 0x1_0000_0000)
      this.topics.set(name, topic)
    }
    return topic
  }

  /** The thread is gone, or the disk has failed: nothing is acknowledged any more. */
  fail(error: KymoError): void {
    if (this.#stopped !== undefined && this.#stopped.code !== 'shutting_down') return
    this.#stopped = error
    this.#timer?.cancel()
    const queue = this.#queue
    this.#queue = []
    for (const waiting of queue) waiting.reject(error)
    this.#closing?.()
    this.#o.fatal(error)
  }

  #arm(): void {
    this.#timer = this.#o.env.clock.after(housekeepMs, () => {
      this.#housekeepDue = true
      this.#schedule()
      this.#arm()
    })
  }

  /** Writes of one turn of the event loop share a cycle. */
  #schedule(): void {
    if (this.#scheduled || this.#busy) return
    this.#scheduled = true
    queueMicrotask(() => {
      this.#scheduled = false
      if (!this.#busy) void this.#work()
    })
  }

  /** Runs until nothing waits. Never rejects: what fails is told to those who wait. */
  async #work(): Promise<void> {
    this.#busy = true
    try {
      while (this.#queue.length > 0 || this.#housekeepDue) {
        if (this.#housekeepDue) await this.#housekeep()
        else await this.#cycle()
      }
    } catch (thrown) {
      this.fail(asKymoError(thrown))
    } finally {
      this.#busy = false
    }
    this.#closing?.()
  }

  async #housekeep(): Promise<void> {
    this.#housekeepDue = false
    const answer = await this.#call({ type: 'housekeep' })
    if (answer === undefined) return
    this.#adopt(answer.topics)
    if (answer.topics.length > 0) this.#o.wake()
  }

  async #cycle(): Promise<void> {
    const ops: WriteOp[] = []
    const taken: Waiting[] = []
    let count = 0
    this.#buffer.used = 0
    while (count < this.#queue.length && this.#buffer.used < limits.logCycleBytesMax) {
      const waiting = this.#queue[count++]!
      const error = waiting.signal.aborted ? new KymoError('shutting_down') : this.#encode(waiting.records, ops)
      if (error === undefined) taken.push(waiting)
      else waiting.reject(error)
    }
    this.#queue.splice(0, count)
    if (ops.length === 0) return
    const written = this.#buffer.used
    const answer = await this.#call({ type: 'commit', ops, buffer: this.#buffer.bytes.buffer }, taken)
    if (answer === undefined) return
    this.#buffer.clear()
    if (answer.error !== undefined) {
      const error = fromPlainError(answer.error)
      this.#adopt(answer.topics)
      this.#o.metrics.refused(error.code)
      for (const waiting of taken) waiting.reject(error)
      return
    }
    for (const op of ops) this.topics.get(op.topic)?.settle()
    this.#o.metrics.written(written, answer.writeMs ?? 0, answer.syncMs ?? 0)
    this.#o.wake()
    for (const waiting of taken) waiting.resolve()
  }

  /** All records of one write, or none of them and why. */
  #encode(records: readonly LogRecord[], ops: WriteOp[]): KymoError | undefined {
    const marks = new Map<TopicWriter, TopicMark>()
    const used = this.#buffer.used
    const opCount = ops.length
    const lastOp = ops.at(-1)
    const last = lastOp === undefined ? undefined : { end: lastOp.end, next: lastOp.next, lastReceivedUs: lastOp.lastReceivedUs }
    try {
      for (const record of records) {
        const topic = this.topic(record.topic)
        if (!marks.has(topic)) marks.set(topic, topic.mark())
        if (topic.damage !== undefined) throw topic.damage
        topic.append(record, this.#encoder, this.#buffer, ops)
      }
      return undefined
    } catch (thrown) {
      for (const [topic, mark] of marks) topic.reset(mark)
      ops.length = opCount
      if (lastOp !== undefined && last !== undefined) Object.assign(lastOp, last)
      this.#buffer.used = used
      const error = asKymoError(thrown)
      // What retention could free at once is worth a look before the writer tries again.
      if (error.code === 'log_quota') this.#housekeepDue = true
      this.#o.metrics.refused(error.code)
      return error
    }
  }

  /** Undefined when the engine has stopped for good; everybody has been told. */
  async #call(job: Job, taken: readonly Waiting[] = []): Promise<Answer | undefined> {
    let answer: Answer
    try {
      answer = await this.#o.link.call(job)
    } catch (thrown) {
      const error = asKymoError(thrown)
      for (const waiting of taken) waiting.reject(error)
      this.fail(error)
      return undefined
    }
    this.#log(answer)
    if (answer.fatal !== true) return answer
    const plain: PlainError = answer.error ?? { code: 'bug', message: 'The log has stopped without saying why.' }
    const error = fromPlainError(plain)
    for (const waiting of taken) waiting.reject(error)
    this.fail(error)
    return undefined
  }

  #adopt(states: readonly TopicState[]): void {
    for (const state of states) this.topic(state.name).adopt(state)
  }

  #log(answer: Answer): void {
    for (const note of answer.notes) this.#o.env.logger[note.level](note.message, note.fields)
  }
}
