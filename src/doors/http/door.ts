import http from 'node:http'
import https from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { Clock, Env } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import type { Metrics } from '../../core/metrics.ts'
import { guard, serverOptions, sparing, tlsHello } from '../tls/listener.ts'
import { buildApp } from './app.ts'
import { measureTurns } from './loop-turns.ts'
import { processMetrics } from './metrics-text.ts'
import { httpLimits } from './options.ts'
import type { HttpContext, HttpDoor, HttpDoorOptions, HttpLimits, Upgrade } from './options.ts'
import { makeReference } from './pages/reference.ts'
import { answerBare } from './problem.ts'
import { takeUpgrades, upgradeOptions } from './upgrade.ts'

interface ParserError extends NodeJS.ErrnoException {
  readonly rawPacket?: Buffer
}

/** What Node's parser refuses never becomes a request: answered on the bare socket. `hello`: a client that speaks TLS where there is none. */
function answerBadClient(error: ParserError, socket: Socket, hello: (socket: Socket) => void): void {
  if (error.code === 'ECONNRESET' || !socket.writable || socket.destroyed) {
    socket.destroy()
    return
  }
  if (error.rawPacket?.[0] === tlsHello && !(socket instanceof TLSSocket)) {
    hello(socket)
    socket.destroy()
    return
  }
  const code =
    error.code === 'HPE_HEADER_OVERFLOW' ? 'headers_too_large' : error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 'request_timeout' : 'request_invalid'
  const detail = code === 'request_invalid' ? { detail: 'This is not a valid HTTP request.' } : {}
  answerBare(socket, new KymoError(code, detail))
}

interface ServerFacts {
  readonly limits: HttpLimits
  readonly handler: http.RequestListener
  readonly tls: HttpDoorOptions['tls']
  readonly env: Env
  readonly metrics: Metrics
  readonly hello: (socket: Socket) => void
  readonly upgrades: readonly Upgrade[]
}

function createServer({ limits, handler, tls, env, metrics, hello, upgrades }: ServerFacts): http.Server {
  const options: http.ServerOptions = {
    maxHeaderSize: limits.headerBytesMax,
    headersTimeout: Math.min(limits.headersTimeoutMs, limits.requestTimeoutMs),
    requestTimeout: limits.requestTimeoutMs,
    connectionsCheckingInterval: Math.max(50, Math.min(5_000, limits.headersTimeoutMs / 2)),
    keepAliveTimeout: limits.keepAliveMs,
    noDelay: true,
    // Refused in access.ts, with problem details: Node's own answer has no body.
    requireHostHeader: false,
    ...upgradeOptions(upgrades),
  }
  let server: http.Server
  if (tls === undefined) server = http.createServer(options, handler)
  else {
    const secure = https.createServer({ ...options, ...serverOptions(tls) }, handler)
    guard(secure, {
      ...tls,
      door: 'http',
      env,
      metrics,
      answerPlain: (socket) =>
        answerBare(socket, new KymoError('https_required', { detail: `Port ${socket.localPort} speaks HTTPS. Call it by https://.` })),
    })
    server = secure
  }
  server.maxConnections = limits.connectionsMax
  server.timeout = limits.socketIdleMs
  // An expectation that is not known may be ignored (RFC 9110 10.1.1); Node's own 417 has no body.
  server.on('checkExpectation', handler)
  server.on('clientError', (error, socket) => answerBadClient(error, socket as Socket, hello))
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

/** How often it is looked whether all connections that are left speak another protocol by now. */
const lookMs = 20

/** `upgraded`: connections that another door has and closes. */
function closeServer(server: http.Server, drained: Promise<unknown>, clock: Clock, upgraded: () => number): Promise<void> {
  return new Promise((resolve) => {
    let closed = false
    server.close(() => {
      closed = true
      resolve()
    })
    server.closeIdleConnections()
    void drained.then(() => server.closeAllConnections())
    const look = (): void => {
      if (closed || upgraded() === 0) return
      server.getConnections((_error, connections) => {
        if (connections <= upgraded()) resolve()
        else clock.after(lookMs, look)
      })
    }
    look()
  })
}

function urlOf(scheme: 'http' | 'https', host: string, port: number): string {
  const name = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '[::1]' : host.includes(':') ? `[${host}]` : host
  return `${scheme}://${name}:${port}`
}

/**
 * Opens the HTTP door. Rejects with `port_in_use` (facts: port, host). Extra ports are opened where they are free; what is taken is
 * left out of `ports` without a word, as other programs may have a right to it.
 */
export async function openHttpDoor(o: HttpDoorOptions): Promise<HttpDoor> {
  const { port: wanted, extraPorts = [], limits, tls, innerTokens, upgrades = [], ...services } = o
  const innerMessages = new WeakSet<http.IncomingMessage>()
  const context: HttpContext = {
    ...services,
    describe: makeReference,
    limits: { ...httpLimits, ...limits },
    ...(tls === undefined ? {} : { hstsMaxAgeS: tls.hstsMaxAgeS }),
    ...(tls === undefined || innerTokens === undefined
      ? {}
      : { inner: { verify: (token: string) => innerTokens.verify(token), has: (message: http.IncomingMessage) => innerMessages.has(message) } }),
    state: { ready: false, draining: false, bodyBytes: 0 },
  }
  const stopProcess = processMetrics(o.metrics)
  // Begins when the server is ready: nobody waits for the turns of a start.
  let stopTurns: (() => void) | undefined
  const stopMeasuring = (): void => {
    stopProcess()
    stopTurns?.()
  }
  const { app, hub, history } = await buildApp(context)
  await app.ready()
  const handler: http.RequestListener = (request, response) => app.routing(request, response)
  const hellos = o.metrics.counter('kymo_tls_on_plain_total', 'Connections that spoke TLS on a port that has none.', { door: 'http' })
  const say = sparing(o.env.clock, o.env.logger.child({ component: 'http' }))
  const facts: ServerFacts = {
    limits: context.limits,
    handler,
    tls,
    env: o.env,
    metrics: o.metrics,
    hello(socket) {
      hellos.value++
      say(
        'tls',
        `${socket.remoteAddress} spoke TLS on port ${socket.localPort}, which has none: http://, or set http.tls.cert_file and http.tls.key_file`,
      )
    },
    upgrades,
  }
  const upgraded = new Map<http.Server, () => number>()
  /** One that others than this server's own processes call. */
  const outer = (): http.Server => {
    const server = createServer(facts)
    if (upgrades.length > 0) upgraded.set(server, takeUpgrades(server, upgrades, context))
    return server
  }
  const servers = [outer()]
  let port: number
  let innerPort: number | undefined
  try {
    port = await listen(servers[0]!, o.host, wanted)
    if (context.inner !== undefined) {
      const inner = createServer({
        ...facts,
        tls: undefined,
        upgrades: [],
        handler(request, response) {
          innerMessages.add(request)
          handler(request, response)
        },
      })
      innerPort = await listen(inner, '127.0.0.1', 0)
      servers.push(inner)
    }
  } catch (error) {
    for (const server of servers) if (server.listening) server.close()
    stopMeasuring()
    await app.close()
    throw error
  }
  const ports = [port]
  for (const extra of extraPorts) {
    if (ports.includes(extra)) continue
    const server = outer()
    try {
      ports.push(await listen(server, o.host, extra))
      servers.push(server)
    } catch (error) {
      o.env.logger.debug('compatibility port not opened', { port: extra, reason: error instanceof Error ? error.message : String(error) })
    }
  }

  const url = urlOf(tls === undefined ? 'http' : 'https', o.host, port)
  const stopAccepting = (): void => {
    context.state.draining = true
    hub.end()
  }
  return {
    url,
    innerUrl: innerPort === undefined ? url : urlOf('http', '127.0.0.1', innerPort),
    port,
    ports,
    setReady(ready) {
      context.state.ready = ready
      if (!ready) return
      stopTurns ??= measureTurns(o.metrics)
      history.start()
    },
    stopAccepting,
    async close(drainMs) {
      stopAccepting()
      stopMeasuring()
      history.stop()
      let cut: (() => void) | undefined
      const drained = new Promise<void>((resolve) => (cut = resolve))
      const timer = o.env.clock.after(drainMs, () => cut?.())
      await Promise.all(servers.map((server) => closeServer(server, drained, o.env.clock, upgraded.get(server) ?? (() => 0))))
      timer.cancel()
      await app.close()
    },
  }
}
