import { randomUUID } from 'node:crypto'
import type { RawData } from 'ws'
import { KymoError } from '../core/errors.ts'
import { ClientFramer, connackText, disconnect, encodeConnect, encodeSubscribe, pingreq } from '../wire/mqtt/client.ts'
import { subscribeRefused, type ClientSink } from '../wire/mqtt/packets.ts'
import { printable, time } from './format.ts'
import type { CommonOptions } from './options.ts'
import type { Terminal } from './terminal.ts'
import { trust } from './trust.ts'

export interface MessagesOptions extends CommonOptions {
  readonly count?: number
  readonly timeZone?: string
}

const keepAliveS = 30
const openWithinMs = 10_000
/** A server's packets may be as large as MQTT lets them be; a message is at most what it takes from clients. */
const packetBytesMax = 256 * 1024 * 1024
const shownCharacters = 2_000
const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Text as it is, anything else as base64. */
function textOf(payload: Uint8Array): { readonly payload: string; readonly encoding: 'utf8' | 'base64' } {
  try {
    return { payload: utf8.decode(payload), encoding: 'utf8' }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    return { payload: Buffer.from(payload).toString('base64'), encoding: 'base64' }
  }
}

/** Where the server of an HTTP URL speaks MQTT over WebSocket. */
function addressOf(url: string): URL {
  const base = URL.parse('/mqtt', url.includes('://') ? url : `http://${url}`)
  if (base === null || (base.protocol !== 'http:' && base.protocol !== 'https:'))
    throw new KymoError('usage', { detail: `"${url}" is not an address of a server: http://host:port is expected` })
  base.protocol = base.protocol === 'https:' ? 'wss:' : 'ws:'
  return base
}

/**
 * Shows each message that the broker delivers for an MQTT filter from now on, and those that are retained, until `signal` or so many. Resolves with
 * false when the server ended it. Throws server_unreachable, unauthenticated, forbidden.
 */
export async function tailMessages(filter: string, options: MessagesOptions, terminal: Terminal, signal: AbortSignal): Promise<boolean> {
  const { WebSocket } = await import('ws')
  const url = addressOf(options.url)
  const ws = new WebSocket(url, 'mqtt', { ...trust(), handshakeTimeout: openWithinMs, perMessageDeflate: false, maxPayload: packetBytesMax })
  ws.binaryType = 'nodebuffer'
  let left = options.count ?? Number.POSITIVE_INFINITY
  return new Promise((resolve, reject) => {
    let subscribed = false
    const fail = (error: KymoError): void => {
      done()
      reject(error)
    }
    const unreachable = (detail: string, cause?: Error): KymoError =>
      new KymoError('server_unreachable', { detail: `no MQTT over WebSocket at ${url.href}: ${detail}`, ...(cause === undefined ? {} : { cause }) })
    const done = (): void => {
      clearInterval(ping)
      signal.removeEventListener('abort', stop)
      if (ws.readyState === ws.OPEN) ws.send(disconnect)
      ws.close()
    }
    const stop = (): void => {
      done()
      resolve(true)
    }
    const ping = setInterval(
      () => {
        if (ws.readyState === ws.OPEN) ws.send(pingreq)
      },
      (keepAliveS / 2) * 1_000,
    )
    signal.addEventListener('abort', stop)

    const sink: ClientSink = {
      connack(_present, code) {
        if (code === 0) ws.send(encodeSubscribe(1, [filter], 1))
        else fail(new KymoError(code === 4 || code === 5 ? 'unauthenticated' : 'server_unreachable', { detail: `${url.host}: ${connackText(code)}` }))
      },
      suback(_packetId, [code]) {
        if (code === subscribeRefused) fail(new KymoError('forbidden', { detail: `the server refuses a subscription to "${filter}"` }))
        else subscribed = true
      },
      publish(bytes, flags, topicStart, topicEnd, packetId, start, end) {
        if (left <= 0) return
        left--
        const qos = (flags >> 1) & 3
        if (qos === 1) ws.send(Uint8Array.of(0x40, 2, packetId >> 8, packetId & 0xff))
        const topic = Buffer.from(bytes.subarray(topicStart, topicEnd)).toString()
        show(topic, bytes.subarray(start, end), qos, (flags & 1) === 1, options, terminal)
        if (left === 0) stop()
      },
      oversized() {},
      acknowledged() {},
      unsuback() {},
      pingresp() {},
    }
    const framer = new ClientFramer(sink, packetBytesMax)

    ws.on('open', () => {
      const { token } = options
      const credentials = token === undefined ? {} : { username: 'kymo', password: token }
      ws.send(encodeConnect({ clientId: `kymo-tail-${randomUUID().slice(0, 13)}`, keepAliveS, clean: true, ...credentials }))
    })
    ws.on('message', (data: RawData) => {
      const wrong = Buffer.isBuffer(data) ? framer.push(data, 0, data.length) : undefined
      if (wrong !== undefined) fail(unreachable(wrong.text))
    })
    ws.on('unexpected-response', (_request, response) => {
      response.resume()
      const off = response.statusCode === 404 || response.statusCode === 426
      fail(unreachable(off ? 'the server offers none (mqtt.ws)' : `it answers ${response.statusCode}`))
    })
    ws.on('error', (error) => fail(unreachable(error.message, error)))
    ws.on('close', (_code, reason) => {
      done()
      if (subscribed) resolve(false)
      else reject(unreachable(reason.length === 0 ? 'the connection was closed' : reason.toString()))
    })
  })
}

function show(topic: string, bytes: Uint8Array, qos: number, retain: boolean, options: MessagesOptions, terminal: Terminal): void {
  const nowMs = Date.now()
  const { payload, encoding } = textOf(bytes)
  if (options.json === true) {
    terminal.out(JSON.stringify({ time: new Date(nowMs).toISOString(), topic, qos, retain, payload, payload_encoding: encoding }))
    return
  }
  const text = encoding === 'utf8' ? payload : `(${bytes.length} bytes, base64) ${payload}`
  const shown = text.length > shownCharacters ? `${text.slice(0, shownCharacters)}… (${bytes.length} bytes)` : text
  terminal.out(`${time(nowMs, options.timeZone)}  ${printable(topic)}${retain ? terminal.colors.dim(' (retained)') : ''}  ${printable(shown)}`)
}
