import { count, milliseconds } from './format.ts'
import type { Terminal } from './terminal.ts'

const barWidth = 24
const drawEveryMs = 100
const lineEveryMs = 5_000

/** Progress of long work, on stderr: a bar where a person looks on, a plain line every five seconds elsewhere. */
export class Progress {
  readonly #terminal: Terminal
  readonly #label: string
  readonly #total: number | undefined
  readonly #quiet: boolean
  readonly #startedMs = performance.now()
  #shownMs = 0

  /** `total`: what `done` counts towards; unknown when absent. */
  constructor(terminal: Terminal, o: { readonly label: string; readonly total?: number; readonly quiet?: boolean }) {
    this.#terminal = terminal
    this.#label = o.label
    this.#total = o.total
    this.#quiet = o.quiet ?? false
    this.#shownMs = terminal.errTty ? 0 : this.#startedMs
  }

  update(done: number, detail = ''): void {
    if (this.#quiet) return
    const now = performance.now()
    if (now - this.#shownMs < (this.#terminal.errTty ? drawEveryMs : lineEveryMs)) return
    this.#shownMs = now
    if (this.#terminal.errTty) this.#terminal.status(this.#text(done, detail, now))
    else this.#terminal.err(this.#plain(done, detail))
  }

  /** Takes the bar away; what was reached is said by the command's own result. */
  end(): void {
    if (!this.#quiet && this.#terminal.errTty) this.#terminal.status('')
  }

  #text(done: number, detail: string, now: number): string {
    if (this.#total === undefined || this.#total <= 0) return `  ${this.#label}  ${count(done)}  ${detail}`
    const share = Math.min(1, done / this.#total)
    const filled = Math.round(share * barWidth)
    const left = share > 0.01 && share < 1 ? `  ${milliseconds(((now - this.#startedMs) / share) * (1 - share))} left` : ''
    const bar = '█'.repeat(filled) + '░'.repeat(barWidth - filled)
    return `  ${this.#label}  ${bar} ${String(Math.floor(share * 100)).padStart(3)} %  ${count(done)}${left}  ${detail}`
  }

  #plain(done: number, detail: string): string {
    const share = this.#total === undefined || this.#total <= 0 ? '' : ` of ${count(this.#total)}`
    return `  ${this.#label}: ${count(done)}${share}  ${detail}`.trimEnd()
  }
}
