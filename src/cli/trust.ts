import fs from 'node:fs'
import https from 'node:https'
import { Readable } from 'node:stream'
import type { ConnectionOptions } from 'node:tls'
import type { Command } from 'commander'
import { Option } from 'commander'
import { KymoError } from '../core/errors.ts'

interface TrustOptions {
  readonly ca?: string
  readonly insecure?: boolean
  readonly clientCert?: string
  readonly clientKey?: string
}

/** Of the one command that this process runs: whom its connections trust, whichever protocol they speak. */
let chosen: ConnectionOptions = {}

/** What every TLS connection of this command takes. */
export function trust(): ConnectionOptions {
  return chosen
}

/** `--ca`, `--client-cert`, `--client-key`, `--insecure`: for every command that connects to a server. */
export function trustOptions(command: Command): Command {
  return command
    .addOption(new Option('--ca <file>', 'certificates in PEM to trust over TLS: of the authority, or the server’s own').env('KYMO_CA'))
    .addOption(new Option('--client-cert <file>', 'certificate to show, where the server asks for one').env('KYMO_CLIENT_CERT'))
    .addOption(new Option('--client-key <file>', 'its private key').env('KYMO_CLIENT_KEY'))
    .option('--insecure', 'over TLS, trust whoever answers: for a try on this machine, never with a token')
    .hook('preAction', (_, self) => {
      chosen = connectionOptions(self.opts<TrustOptions>())
    })
}

/** Throws `usage` when a file cannot be read. */
export function connectionOptions(o: TrustOptions): ConnectionOptions {
  if ((o.clientCert === undefined) !== (o.clientKey === undefined))
    throw new KymoError('usage', { detail: '--client-cert and --client-key are given together' })
  return {
    // The server's own certificate is as good as that of who signed it.
    ...(o.ca === undefined ? {} : { ca: read('--ca', o.ca), allowPartialTrustChain: true }),
    ...(o.clientCert === undefined ? {} : { cert: read('--client-cert', o.clientCert) }),
    ...(o.clientKey === undefined ? {} : { key: read('--client-key', o.clientKey) }),
    ...(o.insecure === true ? { rejectUnauthorized: false } : {}),
  }
}

function read(option: string, file: string): string {
  try {
    return fs.readFileSync(file, 'latin1')
  } catch (cause) {
    throw new KymoError('usage', { detail: `${option} ${file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`, cause })
  }
}

/** Several requests of a command share a connection; one that is idle keeps no process alive. */
const agent = new https.Agent({ keepAlive: true })

const withoutBody = new Set([204, 205, 304])

/** As `fetch`, which cannot be told whom to trust. Rejects with the error of the socket. */
export function secureFetch(
  url: URL,
  o: {
    readonly method: string
    readonly headers: Readonly<Record<string, string>>
    readonly body?: string
    readonly signal: AbortSignal
    readonly tls: ConnectionOptions
  },
): Promise<Response> {
  return new Promise((resolve, reject) => {
    const length = o.body === undefined ? {} : { 'content-length': String(Buffer.byteLength(o.body)) }
    const request = https.request(url, { method: o.method, headers: { ...o.headers, ...length }, signal: o.signal, agent, ...o.tls }, (answer) => {
      const status = answer.statusCode ?? 0
      const headers = new Headers()
      for (const [name, values] of Object.entries(answer.headersDistinct)) for (const value of values ?? []) headers.append(name, value)
      if (!withoutBody.has(status)) return resolve(new Response(Readable.toWeb(answer), { status, headers }))
      answer.resume()
      resolve(new Response(null, { status, headers }))
    })
    request.on('error', reject)
    request.end(o.body)
  })
}

const untrusted =
  /^(?:DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_VERIFY_LEAF_SIGNATURE|UNABLE_TO_GET_ISSUER_CERT(?:_LOCALLY)?|CERT_HAS_EXPIRED|CERT_NOT_YET_VALID)$/

/** What to do about an error of TLS, where that is known. */
export function trustHint(code: string | undefined): string | undefined {
  if (code === undefined) return undefined
  if (untrusted.test(code)) return 'Say whom to trust:  --ca cert.pem (KYMO_CA)'
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return 'Call it by a name or address that stands in its certificate.'
  if (/CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE/.test(code)) return 'It asks for a certificate:  --client-cert cert.pem --client-key key.pem'
  if (code === 'EPROTO' || code === 'ERR_SSL_WRONG_VERSION_NUMBER') return 'It does not speak TLS there: use http:// or mqtt://, or the other port.'
  return undefined
}
