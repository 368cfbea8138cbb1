import { asKymoError } from '../../core/errors.ts'
import type { OnEvent, Running, RunEnd } from '../jobs/runner.ts'

/** A job's work as `Jobs` runs it: stopped, it leaves what it has done where the next start finds it. What it resolves to is its last progress. */
export function running(onEvent: OnEvent, work: (signal: AbortSignal) => Promise<Readonly<Record<string, unknown>>>): Running {
  const abort = new AbortController()
  const end = async (): Promise<RunEnd> => {
    try {
      const last = { event: 'done', ...(await work(abort.signal)) }
      onEvent(last)
      return { code: 0, signal: null, last, error: undefined }
    } catch (thrown) {
      if (abort.signal.aborted) return { code: null, signal: 'SIGTERM', last: undefined, error: undefined }
      const { code, message } = asKymoError(thrown)
      return { code: 1, signal: null, last: undefined, error: { code, detail: message } }
    }
  }
  const give = (): void => abort.abort(new Error('given up'))
  return { ended: end(), stop: give, kill: give }
}
