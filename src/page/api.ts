import { createClient, KymoError } from '../client/index.ts'
import type { Client } from '../client/index.ts'
import { keep, kept } from './storage.ts'

export type {
  CrossingForecast,
  DeadLetter,
  DeadLetterItem,
  Device,
  Forecast,
  ForecastAccuracy,
  ForecastModel,
  Job,
  LiveEvent,
  Reading,
  StatusAnswer,
} from '../client/index.ts'

const tokenKey = 'kymo.token'

interface Access {
  readonly api: Client
  readonly token: string | undefined
  /** The server has asked for a token, or did not know this one. */
  readonly refused: string | undefined
}

let access: Access = accessWith(kept('session', tokenKey))
const listeners = new Set<() => void>()

function accessWith(token: string | undefined): Access {
  const api = createClient({ url: window.location.origin, token, retries: 1, fetch: (url, init) => watched(fetch(url, init)) })
  return { api, token, refused: undefined }
}

/** Any call may be the first to learn that a token is needed. */
async function watched(answer: Promise<Response>): Promise<Response> {
  const response = await answer
  if (response.status === 401 && access.refused === undefined) {
    const said = access.token === undefined ? 'This server asks for a token.' : 'The server does not know this token, or it was revoked.'
    change({ ...access, refused: said })
  }
  return response
}

function change(next: Access): void {
  access = next
  for (const listener of listeners) listener()
}

/** Undefined forgets it. It is kept as long as the tab is open. */
export function setToken(token: string | undefined): void {
  keep('session', tokenKey, token)
  change(accessWith(token))
}

export function subscribeAccess(listener: () => void): () => void {
  listeners.add(listener)
  return () => void listeners.delete(listener)
}

export function currentAccess(): Access {
  return access
}

/** Whether the server answered with this code. */
export function isCode(thrown: unknown, code: string): boolean {
  return thrown instanceof KymoError && thrown.code === code
}

/** How many steps are missing, where the server has said so. */
export function missingOf(thrown: unknown): unknown {
  return thrown instanceof KymoError ? thrown.problem.facts?.['missing'] : undefined
}

/** What went wrong, as one sentence for a person. */
export function reasonOf(thrown: unknown): { readonly title: string; readonly detail: string; readonly code: string | undefined } {
  if (thrown instanceof KymoError) {
    if (thrown.status === 0) return { title: 'The server does not answer', detail: thrown.detail, code: thrown.code }
    const fields = thrown.errors.map(({ pointer = '', detail = '' }) => `${pointer} ${detail}`.trim()).join('; ')
    return { title: 'The server refused this', detail: fields === '' ? thrown.detail : `${thrown.detail} ${fields}`, code: thrown.code }
  }
  return { title: 'Something went wrong in the page', detail: thrown instanceof Error ? thrown.message : String(thrown), code: undefined }
}
