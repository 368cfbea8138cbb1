import process from 'node:process'
import { KymoError } from '../../core/errors.ts'

/** A signal that Ctrl-C and SIGTERM abort, so that work ends in order; `done` gives them back their usual meaning. */
export function interruptible(): { readonly signal: AbortSignal; readonly done: () => void } {
  const abort = new AbortController()
  const stop = (): void => abort.abort(new KymoError('shutting_down', { detail: 'It was interrupted; nothing that was there before has changed.' }))
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  return {
    signal: abort.signal,
    done: () => {
      process.off('SIGINT', stop)
      process.off('SIGTERM', stop)
    },
  }
}
