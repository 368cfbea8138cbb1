import { createClient } from '../../src/client/index.ts'
import type { Client, ClientOptions } from '../../src/client/index.ts'

export interface Sent {
  readonly method: string
  readonly url: URL
  readonly headers: Headers
  readonly body: string | undefined
}

export type Answer = Response | ((request: Sent, signal: AbortSignal) => Response | Promise<Response>)

export function json(body: unknown, init: ResponseInit = {}): Response {
  return Response.json(body, init)
}

/** A client whose requests are answered by `answers` in turn, the last one for ever; `sent` has what it asked. */
export function scripted(answers: readonly Answer[], options: Partial<ClientOptions> = {}): { readonly client: Client; readonly sent: Sent[] } {
  const sent: Sent[] = []
  const client = createClient({
    url: 'http://kymo.test',
    ...options,
    fetch: async (url, init) => {
      const body = init.body
      const request: Sent = {
        method: init.method ?? 'GET',
        url: new URL(url),
        headers: new Headers(init.headers),
        body: typeof body === 'string' ? body : undefined,
      }
      const answer = answers[Math.min(sent.length, answers.length - 1)]!
      sent.push(request)
      return typeof answer === 'function' ? answer(request, init.signal!) : answer.clone()
    },
  })
  return { client, sent }
}
