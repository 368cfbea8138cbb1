import { parentPort } from 'node:worker_threads'
import { KymoError, toPlainError } from '../../core/errors.ts'
import type { Call, CallReply } from './call-thread.ts'

interface Closable {
  close(): void
}

/** What is answered; `transfer`: buffers of it that need not be copied. */
export interface Answer {
  readonly value: unknown
  readonly transfer?: readonly ArrayBuffer[]
}

/** The loop of a thread that a `CallThread` asks: one request, one reply, in order. `open` and `close` are its own requests. */
export function serveCalls<R extends { readonly op: string }, P extends Closable>(o: {
  /** `metadata file`. */
  readonly noun: string
  open(request: Extract<R, { readonly op: 'open' }>): P
  serve(part: P, request: Exclude<R, { readonly op: 'open' | 'close' }>): Answer
}): void {
  let part: P | undefined
  const isOpen = (request: R): request is Extract<R, { readonly op: 'open' }> => request.op === 'open'
  const isOther = (request: R): request is Exclude<R, { readonly op: 'open' | 'close' }> => request.op !== 'open' && request.op !== 'close'
  const answer = (request: R): Answer => {
    if (isOpen(request)) {
      part = o.open(request)
      return { value: undefined }
    }
    if (!isOther(request)) {
      part?.close()
      part = undefined
      return { value: undefined }
    }
    if (part === undefined) throw new KymoError('store_unavailable', { detail: `The ${o.noun} is not open.` })
    return o.serve(part, request)
  }
  parentPort?.on('message', (message: Call<R>) => {
    let reply: CallReply
    let transfer: readonly ArrayBuffer[] = []
    try {
      const answered = answer(message)
      transfer = answered.transfer ?? []
      reply = { call: message.call, value: answered.value }
    } catch (thrown) {
      reply = { call: message.call, error: toPlainError(thrown) }
    }
    parentPort?.postMessage(reply, transfer)
    // Nothing more can be served: let the thread end by itself.
    if (message.op === 'close' || part === undefined) parentPort?.close()
  })
}
