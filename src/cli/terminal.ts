import { createColors } from 'picocolors'

export type Colors = ReturnType<typeof createColors>

/** Where a command writes and what it may assume of the reader. Handed in, so that tests can read it back. */
export interface Terminal {
  /** One line of the result, on stdout. */
  out(line: string): void
  /** Bulk output on stdout; resolves when the reader keeps up. */
  write(text: string): Promise<void>
  /** One line beside the result, on stderr. */
  err(line: string): void
  /** Rewrites the status line on stderr; only where `errTty`. */
  status(line: string): void
  readonly outTty: boolean
  readonly errTty: boolean
  readonly columns: number
  readonly colors: Colors
  readonly env: Readonly<Record<string, string | undefined>>
  /** Aborts on the first Ctrl-C or SIGTERM; the second one ends the process at once. Installed at the first call. */
  interrupted(): AbortSignal
}

/** https://no-color.org, FORCE_COLOR, and no escape codes into files and pipes. */
export function wantsColor(env: Readonly<Record<string, string | undefined>>, tty: boolean): boolean {
  if (env['NO_COLOR'] !== undefined && env['NO_COLOR'] !== '') return false
  if (env['FORCE_COLOR'] !== undefined && env['FORCE_COLOR'] !== '0') return true
  return tty && env['TERM'] !== 'dumb'
}

export function processTerminal(): Terminal {
  let statusShown = false
  let interrupt: AbortController | undefined
  const clearStatus = (): void => {
    if (statusShown) process.stderr.write('\r\x1b[K')
    statusShown = false
  }
  // `kymo tail | head` closes the pipe: that is the reader's way of saying enough.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))
  return {
    out(line) {
      clearStatus()
      process.stdout.write(line + '\n')
    },
    write(text) {
      return new Promise((resolve) => {
        if (process.stdout.write(text)) resolve()
        else process.stdout.once('drain', resolve)
      })
    },
    err(line) {
      clearStatus()
      process.stderr.write(line + '\n')
    },
    status(line) {
      const width = Math.max(20, (process.stderr.columns ?? 80) - 1)
      process.stderr.write('\r\x1b[K' + line.slice(0, width))
      statusShown = true
    },
    outTty: process.stdout.isTTY === true,
    errTty: process.stderr.isTTY === true,
    columns: process.stdout.columns ?? 100,
    colors: createColors(wantsColor(process.env, process.stdout.isTTY === true)),
    env: process.env,
    interrupted() {
      if (interrupt !== undefined) return interrupt.signal
      interrupt = new AbortController()
      const controller = interrupt
      const onSignal = (signal: NodeJS.Signals): void => {
        clearStatus()
        if (controller.signal.aborted) process.exit(signal === 'SIGINT' ? 130 : 143)
        controller.abort()
      }
      process.on('SIGINT', onSignal)
      process.on('SIGTERM', onSignal)
      return controller.signal
    },
  }
}
