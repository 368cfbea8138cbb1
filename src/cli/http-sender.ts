import http from 'node:http'
import https from 'node:https'
import { KymoError } from '../core/errors.ts'
import { trust } from './trust.ts'

export interface HttpSenderOptions {
  readonly url: string
  readonly connections: number
  readonly token?: string
  readonly contentType?: string
  /** Requests that may wait for a free connection. */
  readonly waitingMax?: number
}

/**
 * `status` 0: there was no answer; `problem` says why, or what the server's answer says is wrong; `body` is the answer's text, kept when
 * it is not a plain success.
 */
export type Answered = (status: number, problem: string, body: string) => void

const requestTimeoutMs = 60_000
const answerBytesMax = 64 * 1024

/** POSTs bodies over a few kept-alive connections: lighter than fetch, with a bounded queue. */
export class HttpSender {
  readonly #request: typeof http.request
  readonly #options: http.RequestOptions
  readonly #headers: Readonly<Record<string, string>>
  readonly #agent: http.Agent
  readonly #waitingMax: number
  #pending = 0
  #idle: (() => void)[] = []

  constructor(o: HttpSenderOptions) {
    const url = URL.parse(o.url)
    if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:'))
      throw new KymoError('usage', { detail: `"${o.url}" is not an HTTP address` })
    const secure = url.protocol === 'https:'
    const agentOptions = { keepAlive: true, maxSockets: o.connections, maxFreeSockets: o.connections, noDelay: true }
    this.#request = secure ? https.request : http.request
    this.#agent = secure ? new https.Agent({ ...agentOptions, ...trust() }) : new http.Agent(agentOptions)
    this.#waitingMax = o.connections + (o.waitingMax ?? 1_000)
    this.#options = {
      protocol: url.protocol,
      hostname: url.hostname.replace(/^\[(.*)\]$/, '$1'),
      port: url.port === '' ? (secure ? 443 : 80) : url.port,
      path: url.pathname + url.search,
      method: 'POST',
      agent: this.#agent,
    }
    this.#headers = { 'content-type': o.contentType ?? 'application/json', ...(o.token === undefined ? {} : { authorization: `Bearer ${o.token}` }) }
  }

  /** Requests without their answer. */
  get pending(): number {
    return this.#pending
  }

  /** False: too many requests wait already. `done` is called exactly once for each that was taken. */
  post(body: Buffer, done: Answered, headers: Readonly<Record<string, string>> = {}): boolean {
    if (this.#pending >= this.#waitingMax) return false
    this.#pending++
    let open = true
    const settle = (status: number, problem: string, body = ''): void => {
      if (!open) return
      open = false
      this.#pending--
      done(status, problem, body)
      if (this.#pending === 0) for (const idle of this.#idle.splice(0)) idle()
    }
    const request = this.#request({ ...this.#options, headers: { ...this.#headers, ...headers, 'content-length': body.length } })
    request.on('response', (response) => this.#read(response, settle))
    request.on('error', (error: NodeJS.ErrnoException) => settle(0, error.code ?? error.message))
    request.on('close', () => settle(0, 'connection closed'))
    request.setTimeout(requestTimeoutMs, () => request.destroy(new Error(`no answer within ${requestTimeoutMs / 1000} s`)))
    request.end(body)
    return true
  }

  /** Waits for outstanding answers, at most `timeoutMs`, then closes. Gives how many are still missing. */
  async end(timeoutMs: number): Promise<number> {
    if (this.#pending > 0 && timeoutMs > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, timeoutMs)
        this.#idle.push(() => {
          clearTimeout(timer)
          resolve()
        })
      })
    }
    const missing = this.#pending
    this.#agent.destroy()
    return missing
  }

  #read(response: http.IncomingMessage, settle: (status: number, problem: string, body?: string) => void): void {
    const status = response.statusCode ?? 0
    if (status >= 200 && status < 300 && status !== 207) {
      response.resume()
      response.on('end', () => settle(status, ''))
      return
    }
    let text = ''
    response.setEncoding('utf8')
    response.on('data', (chunk: string) => {
      if (text.length < answerBytesMax) text += chunk
    })
    response.on('end', () => settle(status, text === '' ? `status ${status}` : `status ${status}: ${shortProblem(text)}`, text))
    response.on('error', (error) => settle(0, error.message))
  }
}

/** The sentence of a problem document; else the beginning of the text. */
function shortProblem(text: string): string {
  try {
    const parsed: unknown = JSON.parse(text)
    if (typeof parsed === 'object' && parsed !== null && 'detail' in parsed) return String(parsed.detail)
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
  }
  return text.slice(0, 200)
}
