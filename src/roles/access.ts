import type { Config } from '../core/config.ts'
import { KymoError } from '../core/errors.ts'
import type { HttpAuth } from '../doors/http/options.ts'

const loopbackHosts = new Set(['127.0.0.1', 'localhost', '::1', '[::1]'])

/** Who may come in, by where the doors are bound and what the settings say. Throws open_beyond_loopback. */
export function effectiveAuth(config: Config, tokensExist: boolean): HttpAuth {
  const loopback = loopbackHosts.has(config.http.host) && loopbackHosts.has(config.mqtt.host)
  if (config.auth === 'open') {
    if (config.environment === 'production') throw new KymoError('open_beyond_loopback', { detail: 'auth is "open", which production refuses.' })
    return loopback ? 'loopback' : 'open'
  }
  if (config.auth === 'auto' && loopback && config.environment !== 'production') return 'loopback'
  if (!tokensExist) throw new KymoError('open_beyond_loopback')
  return 'token'
}
