import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto'
import fs from 'node:fs'
import tls from 'node:tls'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'

export type TlsVersion = 'TLSv1.2' | 'TLSv1.3'

/** Which files a door's certificate is in, as the settings name them. */
export interface TlsFiles {
  /** The settings' group: `http.tls` or `mqtt.tls`. Errors name the setting. */
  readonly setting: string
  readonly certFile: string
  readonly keyFile: string
  /** Empty: clients' certificates are not asked for. */
  readonly caFile: string
  readonly minVersion: TlsVersion
}

/** A certificate with its key, read and checked. */
export interface LoadedCertificate {
  /** What `tls.createSecureContext` and `Server.setSecureContext` take. */
  readonly context: Readonly<tls.SecureContextOptions>
  /** `CN=iot.example.com`, in one line. */
  readonly subject: string
  /** Signed by itself: clients must be given this very file. */
  readonly selfSigned: boolean
  readonly notBeforeMs: number
  readonly notAfterMs: number
  /** SHA-256 of the certificate, in hexadecimal with colons. */
  readonly fingerprint: string
  /** Files with a private key that everyone on this machine may read. */
  readonly worldReadable: readonly string[]
}

/** Days until a certificate ends, with fractions; negative: it has ended. */
export function daysLeft({ notAfterMs }: Pick<LoadedCertificate, 'notAfterMs'>, nowMs: number): number {
  return (notAfterMs - nowMs) / 86_400_000
}

/**
 * Reads the pair and checks all that can be checked before a client does: that the files are PEM, belong together, and that the certificate has
 * not expired at `nowMs` (epoch). Throws tls_file_unreadable, tls_not_pem, tls_key_mismatch or tls_expired, which name setting and file.
 */
export function readCertificate(files: TlsFiles, nowMs: number): LoadedCertificate {
  const certName = `${files.setting}.cert_file`
  const keyName = `${files.setting}.key_file`
  const cert = read(certName, files.certFile)
  const key = read(keyName, files.keyFile)
  const [leaf] = certificatesOf(certName, files.certFile, cert)
  const privateKey = keyOf(keyName, files.keyFile, key)
  if (leaf === undefined || !leaf.checkPrivateKey(privateKey))
    throw refusal('tls_key_mismatch', keyName, `${files.keyFile} is not the key of ${files.certFile} (${oneLine(leaf?.subject ?? '')})`)
  const notAfterMs = Date.parse(leaf.validTo)
  if (notAfterMs <= nowMs)
    throw refusal('tls_expired', certName, `${files.certFile} (${oneLine(leaf.subject)}) has expired on ${new Date(notAfterMs).toISOString()}`)
  const ca = files.caFile === '' ? undefined : read(`${files.setting}.ca_file`, files.caFile)
  if (ca !== undefined) certificatesOf(`${files.setting}.ca_file`, files.caFile, ca)
  const context = { cert, key, minVersion: files.minVersion, ...(ca === undefined ? {} : { ca }) }
  try {
    tls.createSecureContext(context)
  } catch (cause) {
    throw refusal('tls_not_pem', certName, `${files.certFile} cannot be used for TLS: ${messageOf(cause)}`, cause)
  }
  return {
    context,
    subject: oneLine(leaf.subject),
    selfSigned: leaf.subject === leaf.issuer,
    notBeforeMs: Date.parse(leaf.validFrom),
    notAfterMs,
    fingerprint: leaf.fingerprint256,
    worldReadable: [files.keyFile].filter((file) => (fs.statSync(file).mode & 0o004) !== 0),
  }
}

/** Says whether the files are the same as before: times, sizes and inodes. A link's target counts. Files that cannot be looked at count as absent. */
export function fileMarks(files: TlsFiles): string {
  return [files.certFile, files.keyFile, files.caFile]
    .filter((file) => file !== '')
    .map((file) => {
      const stat = fs.statSync(file, { throwIfNoEntry: false })
      return stat === undefined ? '-' : `${stat.ino}:${stat.size}:${stat.mtimeMs}`
    })
    .join(' ')
}

function refusal(code: 'tls_file_unreadable' | 'tls_not_pem' | 'tls_key_mismatch' | 'tls_expired', setting: string, what: string, cause?: unknown) {
  return new KymoError(code, { detail: `${setting}: ${what}`, errors: [{ pointer: setting, detail: what }], cause })
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}

function read(setting: string, file: string): string {
  try {
    const stat = fs.statSync(file)
    if (!stat.isFile()) throw new Error('it is no file')
    if (stat.size > limits.tlsFileBytesMax) throw new Error(`it is larger than ${limits.tlsFileBytesMax} bytes`)
    return fs.readFileSync(file, 'latin1')
  } catch (cause) {
    throw refusal('tls_file_unreadable', setting, `${file} cannot be read: ${messageOf(cause)}`, cause)
  }
}

const certificateBlock = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

/** All certificates of a PEM file, in its order; at least one. */
function certificatesOf(setting: string, file: string, pem: string): X509Certificate[] {
  const blocks = pem.match(certificateBlock) ?? []
  if (blocks.length === 0) {
    const instead = pem.includes('PRIVATE KEY-----')
      ? 'it holds a private key'
      : pem.trim() === ''
        ? 'it is empty'
        : 'it has no -----BEGIN CERTIFICATE-----'
    throw refusal('tls_not_pem', setting, `${file} holds no certificate in PEM: ${instead}`)
  }
  try {
    return blocks.map((block) => new X509Certificate(block))
  } catch (cause) {
    throw refusal('tls_not_pem', setting, `${file} holds a certificate that cannot be read: ${messageOf(cause)}`, cause)
  }
}

function keyOf(setting: string, file: string, pem: string): KeyObject {
  if (/-----BEGIN ENCRYPTED PRIVATE KEY-----|Proc-Type: 4,ENCRYPTED/.test(pem))
    throw refusal('tls_not_pem', setting, `the key in ${file} has a passphrase; store it without: openssl pkey -in ${file} -out key.pem`)
  if (!pem.includes('PRIVATE KEY-----')) {
    const instead = pem.includes('BEGIN CERTIFICATE-----')
      ? 'it holds a certificate'
      : pem.trim() === ''
        ? 'it is empty'
        : 'it has no -----BEGIN PRIVATE KEY-----'
    throw refusal('tls_not_pem', setting, `${file} holds no private key in PEM: ${instead}`)
  }
  try {
    return createPrivateKey(pem)
  } catch (cause) {
    throw refusal('tls_not_pem', setting, `${file} holds a private key that cannot be read: ${messageOf(cause)}`, cause)
  }
}

function oneLine(subject: string): string {
  return subject.replaceAll('\n', ', ')
}
