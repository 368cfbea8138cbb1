import type { SecureContextOptions } from 'node:tls'
import type { Env, Timer } from '../../core/env.ts'
import { asKymoError, errorTable, type KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { Metrics } from '../../core/metrics.ts'
import type { SystemStatus } from '../../core/services.ts'
import { daysLeft, fileMarks, readCertificate, type LoadedCertificate, type TlsFiles } from './files.ts'

/** What came of looking at the files again. `error`: the door keeps what it has. */
export interface CertificateReload {
  readonly door: string
  readonly changed: boolean
  readonly subject: string
  /** RFC 3339. */
  readonly expires: string
  readonly error?: { readonly code: string; readonly detail: string }
}

/** The certificate of one door, kept up to date with its files. */
export interface Certificates {
  readonly current: LoadedCertificate
  /** Calls `use` with what new connections get from now on. */
  onChange(use: (context: Readonly<SecureContextOptions>) => void): void
  /** Reads the files now. Never throws: a pair that cannot be used changes nothing. */
  reload(): CertificateReload
  /** For `/readyz?verbose`: not ok when clients cannot trust it any more. */
  component(): SystemStatus['components'][number]
  stop(): void
}

/** Reads the files and watches them from then on. Throws as `readCertificate` does. */
export function openCertificates(door: string, files: TlsFiles, env: Env, metrics: Metrics): Certificates {
  const { clock } = env
  const logger = env.logger.child({ component: door })
  const nowMs = (): number => clock.nowUs() / 1e3
  const failures = metrics.counter('kymo_tls_reload_failures_total', 'Certificates on disk that could not be used; the door keeps the one it has.', {
    door,
  })
  const reloads = metrics.counter('kymo_tls_reloads_total', 'Certificates that were taken over while the door was open.', { door })
  const listeners: ((context: Readonly<SecureContextOptions>) => void)[] = []
  let marks = fileMarks(files)
  let current = readCertificate(files, nowMs())
  let failed: KymoError | undefined
  let timer: Timer | undefined
  let warnedOn = ''
  const expiry = metrics.gauge(
    'kymo_tls_certificate_expiry_days',
    'Days until the certificate of a door ends; negative: it has ended.',
    { door },
    () => {
      expiry.value = daysLeft(current, nowMs())
    },
  )

  const judge = (): void => {
    for (const file of current.worldReadable)
      logger.warn(`The private key ${file} may be read by everyone on this machine: chmod 600 ${file}`, { file })
    if (current.notBeforeMs > nowMs())
      logger.warn(
        `The certificate is valid from ${new Date(current.notBeforeMs).toISOString()} only; the clock here says ${new Date(nowMs()).toISOString()}`,
      )
  }
  /** Once a day is enough to be heard. */
  const warnOfEnd = (): void => {
    const days = daysLeft(current, nowMs())
    const today = new Date(nowMs()).toISOString().slice(0, 10)
    if (days >= limits.tlsExpiryWarnDays || warnedOn === today) return
    warnedOn = today
    const ends = new Date(current.notAfterMs).toISOString()
    if (days <= 0) logger.error(`The certificate has expired on ${ends}: clients refuse it. Renew ${files.certFile}`, { code: 'tls_expired' })
    else logger.warn(`The certificate ends on ${ends}, in ${Math.floor(days)} days. Renew ${files.certFile}`, { days: Math.floor(days) })
  }

  const reload = (): CertificateReload => {
    const before = current.fingerprint
    // First the marks: what changes while it is read is read again.
    marks = fileMarks(files)
    let taken = false
    try {
      const next = readCertificate(files, nowMs())
      taken = next.context.cert !== current.context.cert || next.context.key !== current.context.key || next.context.ca !== current.context.ca
      if (taken) {
        for (const use of listeners) use(next.context)
        current = next
        reloads.value++
        warnedOn = ''
        logger.warn(`New connections get the certificate ${next.subject}, until ${new Date(next.notAfterMs).toISOString()}`, {
          fingerprint: next.fingerprint,
        })
        judge()
      }
      failed = undefined
    } catch (thrown) {
      failed = asKymoError(thrown)
      failures.value++
      logger.error(`The certificate on disk is not used, the one before stays: ${failed.message} (kymo explain ${failed.id})`, {
        code: failed.code,
        keeps: before,
      })
    }
    return {
      door,
      changed: taken,
      subject: current.subject,
      expires: new Date(current.notAfterMs).toISOString(),
      ...(failed === undefined ? {} : { error: { code: failed.code, detail: failed.message } }),
    }
  }

  const look = (): void => {
    timer = clock.after(limits.tlsPollMs, () => {
      if (fileMarks(files) !== marks) reload()
      warnOfEnd()
      look()
    })
  }
  judge()
  warnOfEnd()
  look()
  return {
    get current() {
      return current
    },
    onChange: (use) => void listeners.push(use),
    reload,
    component() {
      const days = daysLeft(current, nowMs())
      const ends = new Date(current.notAfterMs).toISOString()
      const refused = failed === undefined ? '' : `; the one on disk is not used: ${errorTable[failed.code].text} [${failed.id}]`
      return {
        name: `${door} certificate`,
        ok: days > 0,
        detail: `${current.subject} ${days > 0 ? `until ${ends}, ${Math.floor(days)} days` : `has expired on ${ends}`}${refused}`,
      }
    },
    stop: () => timer?.cancel(),
  }
}
