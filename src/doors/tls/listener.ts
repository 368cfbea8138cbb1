import type { Socket } from 'node:net'
import type { Server, TLSSocket, TlsOptions } from 'node:tls'
import type { Clock, Env, Logger } from '../../core/env.ts'
import { limits } from '../../core/limits.ts'
import type { Cell, Metrics } from '../../core/metrics.ts'
import { peerOf } from '../address.ts'
import type { Certificates } from './certificates.ts'
import type { HandshakeGate } from './handshakes.ts'

export type ClientCertificates = 'off' | 'request' | 'require'

/** What a door needs to speak TLS. */
export interface TlsListener {
  readonly certificates: Certificates
  readonly handshakes: HandshakeGate
  readonly clientCertificates: ClientCertificates
}

/** Options of the `tls.Server` or `https.Server` itself; the rest does `guard`. */
export function serverOptions({ certificates, clientCertificates }: TlsListener): TlsOptions {
  return {
    ...certificates.current.context,
    handshakeTimeout: limits.tlsHandshakeTimeoutMs,
    // With `request` a bad certificate is refused by `guard`, none at all is not.
    requestCert: clientCertificates !== 'off',
    rejectUnauthorized: clientCertificates === 'require',
  }
}

/** First byte of a TLS record that carries a handshake (RFC 8446, section 5.1). */
export const tlsHello = 0x16

/**
 * Stands between an accepted connection and the handshake of `server`: waits for the first byte, tells who does not speak TLS (`answerPlain`; the
 * connection ends after it), and lets the handshakes begin at the gate's rate. New connections get a new certificate as soon as there is one.
 */
export function guard(
  server: Server,
  o: TlsListener & { readonly door: string; readonly env: Env; readonly metrics: Metrics; answerPlain?(socket: Socket): void },
): void {
  const { clock } = o.env
  const logger = o.env.logger.child({ component: o.door })
  const handshake = (result: string): Cell =>
    o.metrics.counter('kymo_tls_handshakes_total', 'TLS connections by what came of their handshake; plain: no TLS was spoken.', {
      door: o.door,
      result,
    })
  const counts = {
    ok: handshake('ok'),
    failed: handshake('failed'),
    refused: handshake('refused'),
    plain: handshake('plain'),
    timeout: handshake('timeout'),
  }
  const say = sparing(clock, logger)
  const [begin, ...others] = server.listeners('connection')
  if (begin === undefined || others.length > 0)
    throw new Error(`a TLS server with ${others.length + 1} listeners of connections is not what this was written for`)
  server.removeAllListeners('connection')
  o.certificates.onChange((context) => server.setSecureContext(context))

  server.on('connection', (raw: Socket) => {
    const peer = peerOf(raw.remoteAddress ?? '')
    let leave = (): void => undefined
    const ignore = (): void => undefined // what follows is `close`
    raw.on('error', ignore)
    const late = clock.after(limits.tlsHandshakeTimeoutMs, () => {
      counts.timeout.value++
      raw.destroy()
    })
    const gone = (): void => {
      late.cancel()
      leave()
    }
    raw.once('close', gone)
    // 'end' comes after the last byte was read only; a peer that leaves without a word must not stay.
    const ended = (): void => void raw.destroy()
    raw.once('end', ended)
    const release = (): void => {
      raw.off('close', gone)
      raw.off('end', ended)
    }
    const look = (): void => {
      const bytes: unknown = raw.read()
      if (!Buffer.isBuffer(bytes)) {
        if (raw.readableEnded || raw.destroyed) raw.destroy()
        else raw.once('readable', look)
        return
      }
      late.cancel()
      raw.unshift(bytes)
      if (bytes[0] !== tlsHello) {
        release()
        return plain(raw, bytes)
      }
      leave = o.handshakes.enter(
        peer,
        () => {
          if (raw.destroyed) return
          release()
          raw.off('error', ignore)
          begin.call(server, raw)
        },
        () => {
          counts.refused.value++
          say('refused', `TLS handshakes come faster than tls.handshakes_per_s lets them begin; connections are closed, at last one of ${peer}`)
          raw.destroy()
        },
      )
    }
    raw.once('readable', look)
  })

  const plain = (raw: Socket, bytes: Buffer): void => {
    counts.plain.value++
    const what = bytes[0] === 0x10 ? 'MQTT' : /^[A-Z]{3,8} /.test(bytes.toString('latin1', 0, 9)) ? 'HTTP' : 'something'
    say('plain', `${raw.remoteAddress} spoke ${what} without TLS on the TLS port ${raw.localPort}`)
    o.answerPlain?.(raw)
    // What it still sends is thrown away, so that the answer is not overtaken by a reset.
    raw.resume()
    raw.end()
    const cut = clock.after(limits.mqttLingerMs, () => raw.destroy())
    raw.once('close', () => cut.cancel())
  }

  // An HTTPS server has one of its own, which answers as to an HTTP client.
  server.removeAllListeners('tlsClientError')
  server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
    const timedOut = error.code === 'ERR_TLS_HANDSHAKE_TIMEOUT'
    counts[timedOut ? 'timeout' : 'failed'].value++
    const why = reasons[error.code ?? ''] ?? error.message
    say('failed', `a TLS handshake with ${socket.remoteAddress ?? 'a peer that is gone'} failed: ${why}`, { code: error.code })
    socket.destroy()
  })
  server.prependListener('secureConnection', (socket: TLSSocket) => {
    if (o.clientCertificates === 'request' && !socket.authorized && socket.getPeerX509Certificate() !== undefined) {
      counts.failed.value++
      say('failed', `the certificate that ${socket.remoteAddress} shows is not vouched for: ${String(socket.authorizationError)}`)
      socket.destroy()
    } else counts.ok.value++
  })
}

const reasons: Readonly<Record<string, string>> = {
  ERR_TLS_HANDSHAKE_TIMEOUT: 'it was not finished in time',
  ECONNRESET: 'the client broke it off, as those do that do not trust the certificate',
  ERR_SSL_UNSUPPORTED_PROTOCOL: 'the client speaks only TLS that is older than min_version',
  ERR_SSL_NO_SHARED_CIPHER: 'no cipher in common',
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: 'the client shows no certificate, and one is required',
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: 'the client does not trust the certificate: it needs the authority that signed it',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN: 'the client does not trust the certificate: it needs the authority that signed it',
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: 'the client refuses the certificate: often the name does not fit',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: 'the client says that the certificate has expired',
  CERT_HAS_EXPIRED: "the client's certificate has expired",
  DEPTH_ZERO_SELF_SIGNED_CERT: "ca_file does not vouch for the client's certificate",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "ca_file does not vouch for the client's certificate",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "ca_file does not vouch for the client's certificate",
}

const sayEveryMs = 60_000

/** A logger for what strangers may cause at any rate: one line a minute of each kind, with how many there were since. */
export function sparing(clock: Clock, logger: Logger): (kind: string, text: string, fields?: Readonly<Record<string, string | undefined>>) => void {
  const kinds = new Map<string, { saidMs: number; since: number }>()
  return (kind, text, fields = {}) => {
    const nowMs = clock.monotonicMs()
    const known = kinds.get(kind)
    if (known !== undefined && nowMs - known.saidMs < sayEveryMs) {
      known.since++
      return
    }
    logger.warn(known === undefined || known.since === 0 ? text : `${text} (and ${known.since} like it before)`, fields)
    kinds.set(kind, { saidMs: nowMs, since: 0 })
  }
}
