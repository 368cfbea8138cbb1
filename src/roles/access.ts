import type { Config } from '../core/config.ts'
import { KymoError } from '../core/errors.ts'
import type { HttpAuth } from '../doors/http/options.ts'

const loopbackHosts = new Set(['127.0.0.1', 'localhost', '::1', '[::1]'])

/** Who may come in, by where the doors are bound and what the settings say. Throws open_beyond_loopback, tokens_missing, config_invalid. */
export function effectiveAuth({ auth, environment, http, mqtt }: Config, tokensExist: boolean): HttpAuth {
  const loopback = loopbackHosts.has(http.host) && loopbackHosts.has(mqtt.host)
  const production = environment === 'production'
  if (auth === 'open' && production)
    throw new KymoError('config_invalid', {
      detail:
        'auth is open, and environment is production, which asks everyone for a token. Set auth to auto or token, or environment to development.',
      errors: [{ pointer: 'auth', detail: 'must be auto or token in production' }],
    })
  if (auth === 'open') return loopback ? 'loopback' : 'open'
  if (auth === 'auto' && loopback && !production) return 'loopback'
  if (tokensExist) return 'token'
  if (production)
    throw new KymoError('tokens_missing', {
      detail: 'environment is production, which asks everyone for a token, on loopback too, and there is none. Create one: kymo tokens create.',
    })
  throw new KymoError(auth === 'token' ? 'tokens_missing' : 'open_beyond_loopback')
}
