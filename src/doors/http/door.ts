import http from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { KymoError } from '../../core/errors.ts'
import { buildApp } from './app.ts'
import { measureTurns } from './loop-turns.ts'
import { processMetrics } from './metrics-text.ts'
import { httpLimits } from './options.ts'
import type { HttpContext, HttpDoor, HttpDoorOptions, HttpLimits } from './options.ts'
import { makeReference } from './pages/reference.ts'
import { problemOf, problemType } from './problem.ts'

/** What Node's parser refuses never becomes a request: answered on the bare socket. */
function answerBadClient(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable || socket.destroyed) {
    socket.destroy()
    return
  }
  const code =
    error.code === 'HPE_HEADER_OVERFLOW' ? 'headers_too_large' : error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 'request_timeout' : 'request_invalid'
  const detail = code === 'request_invalid' ? { detail: 'This is not a valid HTTP request.' } : {}
  const problem = problemOf(new KymoError(code, detail), '-')
  const body = JSON.stringify(problem)
  const head = [
    `HTTP/1.1 ${problem.status} ${http.STATUS_CODES[problem.status] ?? ''}`,
    `content-type: ${problemType}`,
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
}

function createServer(limits: HttpLimits, handler: http.RequestListener): http.Server {
  const server = http.createServer(
    {
      maxHeaderSize: limits.headerBytesMax,
      headersTimeout: Math.min(limits.headersTimeoutMs, limits.requestTimeoutMs),
      requestTimeout: limits.requestTimeoutMs,
      connectionsCheckingInterval: Math.max(50, Math.min(5_000, limits.headersTimeoutMs / 2)),
      keepAliveTimeout: limits.keepAliveMs,
      noDelay: true,
    },
    handler,
  )
  server.maxConnections = limits.connectionsMax
  server.timeout = limits.socketIdleMs
  server.on('clientError', (error, socket) => answerBadClient(error, socket as Socket))
  return server
}

function listen(server: http.Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException): void => {
      if (error.code === 'EADDRINUSE')
        reject(
          new KymoError('port_in_use', {
            detail: `Port ${port} on ${host} is in use. Choose another, or 0 for any free one.`,
            facts: { port, host },
            cause: error,
          }),
        )
      else
        reject(
          new KymoError('config_invalid', {
            detail: `Port ${port} on ${host} cannot be opened: ${error.message}.`,
            facts: { port, host },
            cause: error,
          }),
        )
    }
    server.once('error', failed)
    server.listen(port, host, () => {
      server.off('error', failed)
      resolve((server.address() as AddressInfo).port)
    })
  })
}

function closeServer(server: http.Server, drained: Promise<unknown>): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeIdleConnections()
    void drained.then(() => server.closeAllConnections())
  })
}

function urlOf(host: string, port: number): string {
  const name = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '[::1]' : host.includes(':') ? `[${host}]` : host
  return `http://${name}:${port}`
}

/**
 * Opens the HTTP door. Rejects with `port_in_use` (facts: port, host). Extra ports are opened where they are free; what is taken is
 * left out of `ports` without a word, as other programs may have a right to it.
 */
export async function openHttpDoor(o: HttpDoorOptions): Promise<HttpDoor> {
  const { port: wanted, extraPorts = [], limits, ...services } = o
  const context: HttpContext = {
    ...services,
    mqttPort: o.mqttPort ?? 1883,
    describe: makeReference,
    limits: { ...httpLimits, ...limits },
    state: { ready: false, draining: false, bodyBytes: 0 },
  }
  const stopProcess = processMetrics(o.metrics)
  // Begins when the server is ready: nobody waits for the turns of a start.
  let stopTurns: (() => void) | undefined
  const stopMeasuring = (): void => {
    stopProcess()
    stopTurns?.()
  }
  const { app, hub } = await buildApp(context)
  await app.ready()
  const handler: http.RequestListener = (request, response) => app.routing(request, response)
  const main = createServer(context.limits, handler)
  let port: number
  try {
    port = await listen(main, o.host, wanted)
  } catch (error) {
    stopMeasuring()
    await app.close()
    throw error
  }
  const servers = [main]
  const ports = [port]
  for (const extra of extraPorts) {
    if (ports.includes(extra)) continue
    const server = createServer(context.limits, handler)
    try {
      ports.push(await listen(server, o.host, extra))
      servers.push(server)
    } catch (error) {
      o.env.logger.debug('compatibility port not opened', { port: extra, reason: error instanceof Error ? error.message : String(error) })
    }
  }

  const stopAccepting = (): void => {
    context.state.draining = true
    hub.end()
  }
  return {
    url: urlOf(o.host, port),
    port,
    ports,
    setReady(ready) {
      context.state.ready = ready
      if (ready) stopTurns ??= measureTurns(o.metrics)
    },
    stopAccepting,
    async close(drainMs) {
      stopAccepting()
      stopMeasuring()
      let cut: (() => void) | undefined
      const drained = new Promise<void>((resolve) => (cut = resolve))
      const timer = o.env.clock.after(drainMs, () => cut?.())
      await Promise.all(servers.map((server) => closeServer(server, drained)))
      timer.cancel()
      await app.close()
    },
  }
}
