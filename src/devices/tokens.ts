import { hash, randomBytes } from 'node:crypto'
import type { Env, Timer } from '../core/env.ts'
import { asKymoError, KymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import type { MetaDocument, MetaRow, MetaStore } from '../core/ports.ts'
import type { Principal, Scope, TokenInfo, TokenService } from '../core/services.ts'

const collection = 'tokens'
const prefix = 'tk_'
/** 32 random bytes as base64url. */
const tokenPattern = /^tk_[A-Za-z0-9_-]{43}$/
const checkMs = 1_000
const pageRows = 1_000
const versionTries = 10

export interface Tokens extends TokenService {
  /**
   * The principal of an MQTT login: the token stands in the password (any user name), or, as ThingsBoard's devices send it, in
   * the user name.
   */
  verifyLogin(username: string | undefined, password: string | undefined): Principal | undefined
  create(o: {
    readonly name: string
    readonly scopes: readonly Scope[]
    readonly tenant?: string
  }): Promise<{ readonly token: string; readonly info: TokenInfo }>
  /** Takes over what other processes wrote. Runs by itself every second while watching. */
  reload(): Promise<void>
  close(): Promise<void>
}

/** `outsideRevision` (the SQLite adapter has it) tells cheaply whether another process wrote; without it tokens are read again each time. */
export type TokenMeta = MetaStore & { outsideRevision?(): Promise<number> }

interface StoredToken {
  readonly info: TokenInfo
  readonly hash: string
  readonly principal: Principal
}

/**
 * Opens the API keys. `watch` (default true): take over within about a second what another process creates or revokes, so that
 * `kymo tokens create|revoke` works beside a running server.
 */
export async function openTokens(o: { readonly meta: TokenMeta; readonly env: Env; readonly watch?: boolean }): Promise<Tokens> {
  const tokens = new MetaTokens(o.meta, o.env)
  await tokens.load()
  if (o.watch ?? true) tokens.watch()
  return tokens
}

class MetaTokens implements Tokens {
  readonly #meta: TokenMeta
  readonly #env: Env
  /** By hash, without those that are revoked. */
  #active = new Map<string, StoredToken>()
  #infos: readonly TokenInfo[] = []
  #revision: number | undefined
  #timer: Timer | undefined
  #turn: Promise<void> = Promise.resolve()
  #closed = false
  #warned = false

  constructor(meta: TokenMeta, env: Env) {
    this.#meta = meta
    this.#env = env
  }

  get any(): boolean {
    return this.#active.size > 0
  }

  async create(o: {
    readonly name: string
    readonly scopes: readonly Scope[]
    readonly tenant?: string
  }): Promise<{ readonly token: string; readonly info: TokenInfo }> {
    if (this.#infos.length >= limits.tokensMax)
      throw new KymoError('request_invalid', { detail: `There are ${limits.tokensMax} tokens, which is the limit.` })
    // From the system's generator and not from Env: a secret must not follow from a simulation's seed.
    const token = prefix + randomBytes(32).toString('base64url')
    const info: TokenInfo = { id: this.#env.random.uuid(), name: o.name, scopes: [...new Set(o.scopes)], created_us: this.#env.clock.nowUs() }
    const doc: MetaDocument = { ...info, tenant: o.tenant ?? 'default', hash: tokenHash(token) }
    await this.#meta.write([{ op: 'put', collection, tenant: '', doc, expect: 0 }])
    await this.#inTurn(() => this.load())
    return { token, info }
  }

  async list(): Promise<readonly TokenInfo[]> {
    return this.#infos
  }

  /** False: there is no such token. A token that is revoked already stays as it is. */
  async revoke(id: string): Promise<boolean> {
    for (let tries = 1; ; tries++) {
      const row = await this.#meta.get(collection, '', id)
      if (row === undefined) return false
      if (row.doc['revoked_us'] !== undefined) break
      try {
        await this.#meta.write([{ op: 'put', collection, tenant: '', doc: { ...row.doc, revoked_us: this.#env.clock.nowUs() }, expect: row.version }])
        break
      } catch (thrown) {
        if (asKymoError(thrown).code !== 'version_conflict' || tries === versionTries) throw thrown
      }
    }
    await this.#inTurn(() => this.load())
    return true
  }

  /**
   * Looks the token's SHA-256 up. A fast hash is right here: a token is 256 random bits, which nobody guesses however fast the hash is
   * (slow hashes are for what people choose). Timing tells nothing either: what is compared is a hash that the asker cannot steer.
   */
  verify(token: string): Principal | undefined {
    if (!tokenPattern.test(token)) return undefined
    return this.#active.get(tokenHash(token))?.principal
  }

  verifyLogin(username: string | undefined, password: string | undefined): Principal | undefined {
    if (password !== undefined && password !== '') return this.verify(password)
    return username === undefined ? undefined : this.verify(username)
  }

  reload(): Promise<void> {
    return this.#inTurn(() => this.#check())
  }

  watch(): void {
    this.#timer = this.#env.clock.after(checkMs, () => {
      void this.reload().then(() => {
        if (!this.#closed) this.watch()
      })
    })
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#timer?.cancel()
    await this.#turn
  }

  async load(): Promise<void> {
    // Asked before reading: what is written in between is then read once more rather than missed.
    const revision = await this.#meta.outsideRevision?.()
    const active = new Map<string, StoredToken>()
    const infos: TokenInfo[] = []
    for (let after: string | undefined; ;) {
      const rows = await this.#meta.list(collection, '', { limit: pageRows, ...(after === undefined ? {} : { after }) })
      for (const row of rows) {
        const stored = storedToken(row)
        if (stored === undefined) continue
        infos.push(stored.info)
        if (stored.info.revoked_us === undefined) active.set(stored.hash, stored)
      }
      after = rows.at(-1)?.doc.id
      if (rows.length < pageRows) break
    }
    this.#active = active
    this.#infos = infos.sort((a, b) => a.created_us - b.created_us)
    this.#revision = revision
  }

  /** One after the other: a slow reading of before a write must not replace the reading of after it. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(work)
    // Whoever asked hears of the failure; the next in turn goes on.
    this.#turn = done.catch(() => undefined)
    return done
  }

  async #check(): Promise<void> {
    if (this.#closed) return
    try {
      const revision = await this.#meta.outsideRevision?.()
      if (revision === undefined || revision !== this.#revision) await this.load()
      this.#warned = false
    } catch (thrown) {
      // Those that are known stay good; the next second asks again.
      if (!this.#warned) this.#env.logger.warn('tokens could not be read again', { error: asKymoError(thrown).message })
      this.#warned = true
    }
  }
}

function tokenHash(token: string): string {
  return hash('sha256', token, 'hex')
}

const scopes = new Set<unknown>(['ingest', 'read', 'admin'] satisfies Scope[])

function isScope(value: unknown): value is Scope {
  return scopes.has(value)
}

/** Undefined for a document that is not a token: it then opens nothing. */
function storedToken({ doc }: MetaRow): StoredToken | undefined {
  const { name, scopes: given, created_us: createdUs, revoked_us: revokedUs, tenant, hash: hashed } = doc
  if (typeof name !== 'string' || !Array.isArray(given) || typeof createdUs !== 'number') return undefined
  if (typeof tenant !== 'string' || typeof hashed !== 'string') return undefined
  const known = given.filter(isScope)
  // Whatever stands in `revoked_us`: the token was revoked.
  const revoked = revokedUs === undefined ? {} : { revoked_us: typeof revokedUs === 'number' ? revokedUs : createdUs }
  const info: TokenInfo = { id: doc.id, name, scopes: known, created_us: createdUs, ...revoked }
  return { info, hash: hashed, principal: { tenant, id: doc.id, scopes: new Set(known) } }
}
