import type { Code, KymoError } from '../core/errors.ts'
import { errorTable } from '../core/errors.ts'

/** What the shell sees. `refused`: the server understood and said no (not found, forbidden, invalid). */
export const Exit = { ok: 0, refused: 1, usage: 2, config: 3, port: 4, storage: 5, dependency: 6, bug: 70, assertion: 99, interrupted: 130 } as const

const byCode: Partial<Record<Code, number>> = {
  usage: Exit.usage,
  node_too_old: Exit.config,
  config_invalid: Exit.config,
  open_beyond_loopback: Exit.config,
  tokens_missing: Exit.config,
  tls_file_unreadable: Exit.config,
  tls_not_pem: Exit.config,
  tls_key_mismatch: Exit.config,
  tls_expired: Exit.config,
  port_in_use: Exit.port,
  already_open: Exit.storage,
  server_unreachable: Exit.dependency,
  assertion_failed: Exit.assertion,
  bug: Exit.bug,
}

export function exitCodeOf(error: KymoError): number {
  const own = byCode[error.code]
  if (own !== undefined) return own
  if (errorTable[error.code].id.startsWith('KYMO-E2')) return error.code.startsWith('query_') ? Exit.refused : Exit.storage
  return Exit.refused
}
