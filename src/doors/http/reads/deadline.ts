import type { FastifyReply } from 'fastify'
import { KymoError } from '../../../core/errors.ts'
import type { HttpContext } from '../options.ts'

/**
 * Runs `work` until it is done, `queryDeadlineMs` are over (`query_deadline`), or the client has gone. The signal is aborted in the last
 * two cases; the caller is answered at once, even when the store takes a while to stop.
 */
export async function withDeadline<T>(context: HttpContext, reply: FastifyReply, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const { env, limits } = context
  const controller = new AbortController()
  const expire = (detail: string): void => controller.abort(new KymoError('query_deadline', { detail }))
  const timer = env.clock.after(limits.queryDeadlineMs, () => {
    expire(`The query took longer than ${limits.queryDeadlineMs / 1000} s. Ask for less time, fewer series or a larger step.`)
  })
  const gone = (): void => expire('The client has gone.')
  reply.raw.once('close', gone)
  const aborted = new Promise<never>((_, reject) => {
    controller.signal.addEventListener('abort', () => reject(controller.signal.reason as KymoError), { once: true })
  })
  try {
    return await Promise.race([work(controller.signal), aborted])
  } finally {
    timer.cancel()
    reply.raw.off('close', gone)
  }
}
