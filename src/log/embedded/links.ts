import { Worker } from 'node:worker_threads'
import path from 'node:path'
import { KymoError } from '../../core/errors.ts'
import type { Engine } from './engine.ts'
import type { Answer, EngineSettings, Job, Link } from './protocol.ts'

/** The engine in this thread: for simulations, tests and short-lived commands. */
export function directLink(engine: Engine): Link {
  return {
    call: (job) => Promise.resolve(engine.run(job)),
    end: () => Promise.resolve(),
  }
}

export interface WorkerStart {
  readonly settings: EngineSettings
  readonly board: SharedArrayBuffer
}

/** The engine in a thread of its own, where a blocking fsync stops nobody. */
export class WorkerLink implements Link {
  readonly #worker: Worker
  #waiting: { readonly resolve: (answer: Answer) => void; readonly reject: (error: KymoError) => void } | undefined
  #gone: KymoError | undefined
  #ending = false
  readonly #lost: (error: KymoError) => void

  /** `lost` is called when the thread ends without having been asked to. */
  constructor(start: WorkerStart, lost: (error: KymoError) => void) {
    this.#lost = lost
    // Built code has .js where the source has .ts; the worker lies beside this file in both.
    const file = new URL(`./worker${path.extname(import.meta.url)}`, import.meta.url)
    this.#worker = new Worker(file, {
      workerData: start,
      name: 'kymo-log',
      // All its data are in buffers outside the heap; the default young generation alone would be 48 MB.
      resourceLimits: { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 64 },
    })
    this.#worker.on('message', (answer: Answer) => {
      const waiting = this.#waiting
      this.#waiting = undefined
      waiting?.resolve(answer)
    })
    this.#worker.on('error', (cause: unknown) => {
      this.#end(new KymoError('bug', { detail: `The log's thread failed: ${cause instanceof Error ? cause.message : String(cause)}`, cause }))
    })
    this.#worker.on('exit', () => this.#end(new KymoError('bug', { detail: "The log's thread has ended." })))
  }

  call(job: Job): Promise<Answer> {
    if (this.#gone !== undefined) return Promise.reject(this.#gone)
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
      // The cycle's buffer is shared memory: handing an ArrayBuffer over and back costs more than all the rest of a small cycle.
      this.#worker.postMessage(job)
    })
  }

  async end(): Promise<void> {
    this.#ending = true
    await this.#worker.terminate()
  }

  #end(error: KymoError): void {
    if (this.#gone !== undefined) return
    this.#gone = error
    const waiting = this.#waiting
    this.#waiting = undefined
    waiting?.reject(error)
    if (!this.#ending) this.#lost(error)
  }
}
