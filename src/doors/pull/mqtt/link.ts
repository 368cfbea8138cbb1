import fs from 'node:fs'
import net from 'node:net'
import tls from 'node:tls'
import { limits } from '../../../core/limits.ts'
import type { BrokerAddress } from '../../../wire/mqtt/address.ts'

/** Files in PEM; read anew for each connection, so that a renewed certificate is used by the next. */
export interface TlsFiles {
  readonly caFile?: string
  readonly certFile?: string
  readonly keyFile?: string
}

export interface LinkEvents {
  /** It is open, TLS included. */
  opened(): void
  /** Borrowed for the call. */
  received(bytes: Uint8Array): void
  /** All that was written has gone to the network. */
  drained(): void
  /** Once; nothing follows. `refused`: the next try will fare no better until somebody changes something. */
  closed(reason: string, refused: boolean): void
}

/** A connection to the broker, as the codec's side sees it. */
export interface Link {
  write(bytes: Uint8Array): void
  /** Nothing more is read. What the network buffers hold stays there, and TCP slows the broker down. */
  pause(): void
  resume(): void
  /** Sends what was written, then ends. */
  close(): void
  destroy(): void
  /** Bytes that wait to be sent. */
  readonly waitingBytes: number
  /** Where it really goes, once it is open. */
  readonly peer: { readonly address: string; readonly port: number } | undefined
}

export type Dial = (address: BrokerAddress, files: TlsFiles, events: LinkEvents) => Link

/** How long the broker may take to end what we have ended. */
const closeTimeoutMs = 1_000

/** The files' contents. Throws an Error that names the one that cannot be read. */
export function readTlsFiles(files: TlsFiles): { readonly ca?: Buffer; readonly cert?: Buffer; readonly key?: Buffer } {
  const read = (setting: string, file: string): Buffer => {
    try {
      const { size } = fs.statSync(file)
      if (size > limits.tlsFileBytesMax) throw new Error(`it is larger than ${limits.tlsFileBytesMax} bytes`)
      return fs.readFileSync(file)
    } catch (thrown) {
      throw new Error(`mqtt.pull.${setting} ${file} cannot be read: ${thrown instanceof Error ? thrown.message : String(thrown)}`, { cause: thrown })
    }
  }
  return {
    ...(files.caFile === undefined ? {} : { ca: read('ca_file', files.caFile) }),
    ...(files.certFile === undefined ? {} : { cert: read('cert_file', files.certFile) }),
    ...(files.keyFile === undefined ? {} : { key: read('key_file', files.keyFile) }),
  }
}

/** TCP, or TLS for mqtts://. Certificates are always verified. */
export const dialSocket: Dial = (address, files, events) => {
  const { host, port, secure } = address
  let failure: { readonly reason: string; readonly refused: boolean } | undefined
  let socket: net.Socket
  try {
    const servername = net.isIP(host) === 0 ? { servername: host } : {}
    socket = secure ? tls.connect({ host, port, ...servername, ...readTlsFiles(files) }) : net.connect({ host, port })
  } catch (thrown) {
    // A file that cannot be read, or a certificate that is none: told as a connection that failed.
    failure = { reason: thrown instanceof Error ? thrown.message : String(thrown), refused: true }
    socket = new net.Socket()
    setImmediate(() => socket.destroy())
  }
  socket.setNoDelay(true)
  // A peer that vanished while nothing is read is found by the network, not by its silence.
  socket.setKeepAlive(true, 60_000)
  let timer: NodeJS.Timeout | undefined
  socket.once(secure ? 'secureConnect' : 'connect', () => events.opened())
  socket.on('data', (chunk: Buffer) => events.received(chunk))
  socket.on('drain', () => events.drained())
  socket.on('error', (error: NodeJS.ErrnoException) => {
    failure ??= explain(error)
  })
  socket.on('close', () => {
    clearTimeout(timer)
    events.closed(failure?.reason ?? 'it closed the connection', failure?.refused === true)
  })
  return {
    write: (bytes) => {
      if (socket.writable) socket.write(bytes)
    },
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    close() {
      // Read on, or the end of the other side is never seen.
      socket.resume()
      socket.end()
      timer = setTimeout(() => socket.destroy(), closeTimeoutMs)
    },
    destroy: () => void socket.destroy(),
    get waitingBytes() {
      return socket.writableLength
    },
    get peer() {
      const { remoteAddress, remotePort } = socket
      return remoteAddress === undefined || remotePort === undefined ? undefined : { address: remoteAddress, port: remotePort }
    },
  }
}

const untrusted = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'CERT_SIGNATURE_FAILURE',
])

function explain(error: NodeJS.ErrnoException): { readonly reason: string; readonly refused: boolean } {
  const { code = '', message } = error
  if (untrusted.has(code)) return { reason: `its certificate is not trusted (${code}): name what vouches for it in mqtt.pull.ca_file`, refused: true }
  if (code === 'CERT_HAS_EXPIRED') return { reason: 'its certificate has expired', refused: true }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return { reason: `its certificate is for another name (${message})`, refused: true }
  if (code.startsWith('ERR_SSL_')) return { reason: `TLS with it fails (${code}): ${message}`, refused: false }
  if (code === 'ECONNREFUSED') return { reason: 'nobody listens there (ECONNREFUSED)', refused: false }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return { reason: `its name is not known (${code})`, refused: false }
  // Several addresses were tried: the error of all has no message of its own.
  return { reason: message === '' ? code : message, refused: false }
}
