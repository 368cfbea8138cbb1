import type http from 'node:http'
import type { Socket } from 'node:net'
import { asKymoError, KymoError } from '../../core/errors.ts'
import { isLoopbackAddress, peerOf } from '../address.ts'
import { checkHost, checkOneHost, checkOrigin } from './access.ts'
import { corsAllows } from './headers.ts'
import type { HttpContext, Upgrade } from './options.ts'
import { answerBare } from './problem.ts'

function upgradeOf(upgrades: readonly Upgrade[], request: http.IncomingMessage): Upgrade | undefined {
  if (request.headers.upgrade?.toLowerCase() !== 'websocket') return undefined
  const path = (request.url ?? '').split('?', 1)[0]
  return upgrades.find((one) => one.path === path)
}

/**
 * Options of a server that offers `upgrades`. Requests to change to anything else are answered as if they had not asked (RFC 9110, section 7.8):
 * clients ask for HTTP/2 without being told to.
 */
export function upgradeOptions(upgrades: readonly Upgrade[]): http.ServerOptions {
  return { shouldUpgradeCallback: (request) => upgradeOf(upgrades, request) !== undefined }
}

const upgradesHelp = 'Requests to speak another protocol (MQTT over WebSocket at /mqtt): handed to its door, or refused before that.'

/**
 * Hands connections over that ask to speak another protocol, once Host, Origin and rate are as for a request. They no longer count as connections
 * of `server`. A browser says its page's Origin and lets any page ask, so that, unlike for a request, it must be ours with tokens too: what a
 * browser adds of itself, such as a certificate, shall count for no other page. Returns how many of them there are.
 */
export function takeUpgrades(server: http.Server, upgrades: readonly Upgrade[], context: HttpContext): () => number {
  let open = 0
  server.on('upgrade', (request: http.IncomingMessage, stream, head: Buffer) => {
    const socket = stream as Socket
    open++
    server.maxConnections++
    socket.once('close', () => {
      open--
      server.maxConnections--
    })
    socket.on('error', () => {
      // What follows is `close`.
    })
    const upgrade = upgradeOf(upgrades, request)
    const count = (result: 'taken' | 'refused'): void => {
      context.metrics.counter('kymo_http_upgrades_total', upgradesHelp, { path: upgrade?.path ?? 'unmatched', result }).value++
    }
    try {
      checkOneHost(request)
      const { host, origin } = request.headers
      if (context.auth === 'loopback') checkHost(host, context.host)
      if (!corsAllows(context, origin)) checkOrigin(origin, host)
      checkRate(context, socket.remoteAddress ?? '')
      if (context.state.draining) throw new KymoError('shutting_down')
      if (upgrade === undefined) throw new KymoError('not_found')
      upgrade.accept(request, socket, head)
      count('taken')
    } catch (thrown) {
      count('refused')
      answerBare(socket, asKymoError(thrown))
      socket.once('finish', () => socket.destroy())
    }
  })
  return () => open
}

/** No token is known yet: it comes with CONNECT. */
function checkRate({ requestRate, metrics }: HttpContext, address: string): void {
  if (requestRate === undefined || isLoopbackAddress(address)) return
  const { allowed, retryAfterS } = requestRate.take(peerOf(address))
  if (allowed) return
  metrics.counter('kymo_http_rate_limited_total', 'Requests refused because their credential or address sent too many.').value++
  throw new KymoError('rate_limited', { retryAfterS })
}
