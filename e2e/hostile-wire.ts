/** Bytes to a port and what comes back, for clients that no library would be. */
import { Buffer } from 'node:buffer'
import net from 'node:net'

export type Bytes = string | Uint8Array

export interface Answer {
  readonly status: number
  readonly headers: ReadonlyMap<string, string>
  readonly body: string
}

export interface Talk {
  readonly answers: readonly Answer[]
  /** The server closed, or reset, the connection. */
  readonly closed: boolean
  /** What was no answer. */
  readonly rest: Buffer
}

export interface TalkOptions {
  /** What is sent, one after the other: a generator may be endless, it is left when the connection closes. */
  readonly send: Iterable<Bytes> | AsyncIterable<Bytes>
  /** How many answers are waited for; the connection's end is enough in any case. */
  readonly answers?: number
  /** Closes our half once all is sent: what is incomplete then stays so. */
  readonly end?: boolean
  readonly withinMs?: number
}

interface Parsed {
  readonly answer: Answer
  readonly length: number
}

function chunked(bytes: Buffer, from: number): { readonly body: Buffer; readonly length: number } | undefined {
  const parts: Buffer[] = []
  for (let at = from; ;) {
    const line = bytes.indexOf('\r\n', at)
    if (line < 0) return undefined
    const size = Number.parseInt(bytes.toString('latin1', at, line), 16)
    const end = line + 2 + size + 2
    if (!Number.isFinite(size) || bytes.length < end) return undefined
    if (size === 0) return { body: Buffer.concat(parts), length: end }
    parts.push(bytes.subarray(line + 2, line + 2 + size))
    at = end
  }
}

/** The first answer of these bytes, once it is complete: of an interim one (1xx) and of 204 and 304 there is no body. */
function parse(bytes: Buffer, closed: boolean): Parsed | undefined {
  const headEnd = bytes.indexOf('\r\n\r\n')
  if (headEnd < 0) return undefined
  const [first = '', ...lines] = bytes.toString('latin1', 0, headEnd).split('\r\n')
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(first)?.[1])
  if (!Number.isFinite(status)) return undefined
  const headers = new Map(lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]))
  const from = headEnd + 4
  const of = (body: Buffer, length: number): Parsed => ({ answer: { status, headers, body: body.toString('utf8') }, length })
  if (status < 200 || status === 204 || status === 304) return of(Buffer.alloc(0), from)
  if (headers.get('transfer-encoding') === 'chunked') {
    const found = chunked(bytes, from)
    return found === undefined ? undefined : of(found.body, found.length)
  }
  const declared = headers.get('content-length')
  if (declared === undefined) return closed ? of(bytes.subarray(from), bytes.length) : undefined
  const end = from + Number(declared)
  return bytes.length < end ? undefined : of(bytes.subarray(from, end), end)
}

/** Rejects when within the time there is neither what was waited for nor the connection's end. */
export async function talk(port: number, o: TalkOptions): Promise<Talk> {
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true })
  let bytes: Buffer = Buffer.alloc(0)
  let closed = false
  let wake: (() => void) | undefined
  const answers: Answer[] = []
  const take = (): void => {
    for (let found = parse(bytes, closed); found !== undefined; found = parse(bytes, closed)) {
      if (found.answer.status >= 200) answers.push(found.answer)
      bytes = bytes.subarray(found.length)
    }
    wake?.()
  }
  const gone = (): void => {
    closed = true
    take()
  }
  socket.on('data', (part) => {
    bytes = bytes.length === 0 ? part : Buffer.concat([bytes, part])
    take()
  })
  socket.on('drain', () => wake?.())
  socket.on('end', gone).on('close', gone).on('error', gone)
  const wanted = o.answers ?? 1
  const until = performance.now() + (o.withinMs ?? 20_000)
  const timer = setInterval(() => wake?.(), 100)
  const wait = async (done: () => boolean, what: string): Promise<void> => {
    while (!closed && !done()) {
      if (performance.now() > until)
        throw new Error(`${what}: after ${answers.length} answers and ${bytes.length} bytes neither the next nor the connection's end`)
      await new Promise<void>((resolve) => (wake = resolve))
    }
  }
  try {
    for await (const part of o.send) {
      if (closed) break
      if (!socket.write(part)) await wait(() => !socket.writableNeedDrain || answers.length >= wanted, 'while sending')
    }
    if (o.end === true && !closed) socket.end()
    await wait(() => answers.length >= wanted, 'all is sent')
    return { answers, closed, rest: bytes }
  } finally {
    clearInterval(timer)
    socket.destroy()
  }
}

/** A request that any client might send. */
export function request(
  method: string,
  path: string,
  o: { readonly body?: Bytes; readonly headers?: Readonly<Record<string, string>> } = {},
): readonly Bytes[] {
  const headers: Record<string, string> = { host: '127.0.0.1', ...o.headers }
  if (o.body !== undefined) {
    headers['content-type'] ??= 'application/json'
    headers['content-length'] ??= String(Buffer.byteLength(o.body))
  }
  const head = `${method} ${path} HTTP/1.1\r\n${Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('')}\r\n`
  return o.body === undefined ? [head] : [head, o.body]
}
