import type { Config } from '../../core/config.ts'
import { asKymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { daysLeft, readCertificate } from '../../doors/tls/files.ts'
import { tlsFilesOf } from '../../roles/doors.ts'
import { fail, ok, warn, type Finding } from './finding.ts'

/** The certificates on disk: whether a start, or a server that looks at them again, could use them. None where no door speaks TLS. */
export function checkCertificates(config: Config, nowMs: number): Finding[] {
  return (['http', 'mqtt'] as const).flatMap((door) => {
    const files = tlsFilesOf(config, door)
    if (files === undefined) return []
    const check = `${door} certificate`
    try {
      const certificate = readCertificate(files, nowMs)
      const days = Math.floor(daysLeft(certificate, nowMs))
      const text = `${certificate.subject}, ${days} days left, until ${new Date(certificate.notAfterMs).toISOString()}`
      const findings: Finding[] = []
      if (certificate.notBeforeMs > nowMs)
        findings.push(
          warn(check, `${text}; valid from ${new Date(certificate.notBeforeMs).toISOString()} only`, 'Look at the clock of this machine.'),
        )
      else if (days < limits.tlsExpiryWarnDays)
        findings.push(warn(check, text, `Renew ${files.certFile}; a running server takes the new one within a minute.`))
      else findings.push(ok(check, text))
      for (const file of certificate.worldReadable)
        findings.push(warn(`${door} key`, `${file} may be read by everyone on this machine`, `chmod 600 ${file}`))
      return findings
    } catch (thrown) {
      const { code, message } = asKymoError(thrown)
      return [fail(check, code, message, `A server that runs keeps the one it has. kymo explain ${code} tells more.`)]
    }
  })
}
