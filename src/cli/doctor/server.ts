import { asKymoError } from '../../core/errors.ts'
import type { Api } from '../api.ts'
import { ago, bytes, count } from '../format.ts'
import type { StatusAnswer } from '../status.ts'
import { version } from '../version.ts'
import { fail, ok, warn, type Finding } from './finding.ts'

const lagOldMs = 60_000
const lettersWithinMs = 5 * 60_000
const lettersAsked = 100
const clockSkewMaxMs = 2_000

/** What a running server says of itself. */
export async function checkServer(api: Api, nowMs: () => number): Promise<Finding[]> {
  const { origin } = api.base
  let status: StatusAnswer
  try {
    status = await api.json<StatusAnswer>('/api/v1/status')
  } catch (thrown) {
    const error = asKymoError(thrown)
    if (error.code === 'unauthenticated' || error.code === 'forbidden')
      return [warn('server', `${origin} answers and asks for a token`, 'Give one to look further: --token tk_… (KYMO_TOKEN).')]
    return [fail('server', 'server_unreachable', error.message, 'Start it: kymo start. When it should be running, look at what it said last.')]
  }
  return [
    checkReady(origin, status),
    ...checkVersion(status),
    ...checkLag(status, nowMs()),
    await checkLetters(api, nowMs),
    ...(await checkSkew(api, nowMs)),
  ]
}

function checkReady(origin: string, status: StatusAnswer): Finding {
  const text = `${origin}, pid ${status.pid}, ${count(status.devices)} devices, ${count(status.mqtt_connections)} MQTT connections`
  if (status.ready) return ok('server', `ready at ${text}`)
  const bad = status.components
    .filter((part) => !part.ok && part.optional !== true)
    .map((part) => `${part.name}${part.detail === undefined ? '' : `: ${part.detail}`}`)
  const why = status.draining ? 'it is stopping' : bad.join('; ') || 'it does not say why'
  return fail(
    'server',
    status.draining ? 'shutting_down' : 'store_unavailable',
    `not ready at ${text}: ${why}`,
    'kymo status tells more; so does the log of the server.',
  )
}

function checkVersion(status: StatusAnswer): Finding[] {
  if (status.version === version()) return [ok('version', version())]
  return [warn('version', `the server is ${status.version}, this command ${version()}`, 'Restart the server to have both the same.')]
}

function checkLag(status: StatusAnswer, nowMs: number): Finding[] {
  return status.lag.map((lag) => {
    const behind = BigInt(lag.end) - BigInt(lag.committed)
    const check = `lag of ${lag.group}`
    if (behind === 0n || lag.oldest === null || nowMs - Date.parse(lag.oldest) < lagOldMs) return ok(check, `${count(Number(behind))} records`)
    return warn(
      check,
      `${count(Number(behind))} records, ${bytes(lag.bytes)}; the oldest came ${ago(Date.parse(lag.oldest), nowMs)}`,
      'Nothing is lost. Look whether it grows (kymo status), and whether the disk or the CPU is the limit.',
    )
  })
}

interface LetterAnswer {
  readonly items: readonly { readonly time: string; readonly code: string }[]
}

async function checkLetters(api: Api, nowMs: () => number): Promise<Finding> {
  const check = 'dead letters'
  try {
    const { items } = await api.json<LetterAnswer>('/api/v1/dead-letters', { status: 'waiting', limit: lettersAsked })
    if (items.length === 0) return ok(check, 'none wait')
    const fresh = items.filter(({ time }) => nowMs() - Date.parse(time) < lettersWithinMs)
    const many = (n: number): string => (n === lettersAsked ? `${n} or more` : count(n))
    if (fresh.length === 0) return ok(check, `${many(items.length)} wait, none of the last five minutes`)
    const codes = [...new Set(fresh.map(({ code }) => code))].join(', ')
    const text = `${many(fresh.length)} came in the last five minutes (${codes})`
    return warn(check, text, 'See why: kymo dlq list. After a fix: kymo dlq replay. What an error means: kymo explain CODE.')
  } catch (thrown) {
    return warn(check, `cannot be counted: ${asKymoError(thrown).message}`, 'Use a token with the scope read.')
  }
}

/** By the Date header, which counts seconds. */
async function checkSkew(api: Api, nowMs: () => number): Promise<Finding[]> {
  const response = await api.request('GET', '/livez', { accept: '*/*' })
  await response.arrayBuffer()
  const said = Date.parse(response.headers.get('date') ?? '')
  const skewMs = Math.abs(said + 500 - nowMs())
  if (!(skewMs > clockSkewMaxMs)) return []
  return [warn('clock', `this machine and the server differ by ${count(skewMs / 1000)} s`, 'Set both by NTP.')]
}
