import { useEffect, useReducer, useRef, useState, useSyncExternalStore } from 'react'
import type { RefObject } from 'react'
import { currentAccess, subscribeAccess } from './api.ts'
import type { LiveEvent } from './api.ts'
import type { Client } from '../client/index.ts'

export function useAccess(): ReturnType<typeof currentAccess> {
  return useSyncExternalStore(subscribeAccess, currentAccess)
}

export interface Asked<T> {
  /** The last answer, also while a newer one is awaited or could not be had. */
  readonly data: T | undefined
  readonly error: unknown
  readonly busy: boolean
  /** Asks now. */
  readonly again: () => void
}

/** The longest wait between two attempts while the server does not answer. */
const retryMsMax = 15_000

interface State<T> {
  readonly key: string
  readonly data: T | undefined
  readonly error: unknown
  readonly busy: boolean
}

/**
 * Asks the API, and again every `everyMs` (counted from the answer) while the page can be seen. `key` names the question: another one forgets
 * the answer, unless `keep`.
 */
export function useAsk<T>(
  key: string,
  ask: (api: Client, signal: AbortSignal) => Promise<T>,
  o: { readonly everyMs?: number | undefined; readonly keep?: boolean } = {},
): Asked<T> {
  const { api } = useAccess()
  const { everyMs, keep = false } = o
  const [state, setState] = useState<State<T>>({ key, data: undefined, error: undefined, busy: true })
  const [turn, again] = useReducer((n: number) => n + 1, 0)
  const question = useRef(ask)
  useEffect(() => {
    question.current = ask
  })
  useEffect(() => {
    const stop = new AbortController()
    let timer: number | undefined
    let failures = 0
    const run = async (): Promise<void> => {
      window.clearTimeout(timer)
      setState((old) => ({ ...(old.key === key || keep ? old : { data: undefined, error: undefined }), key, busy: true }))
      try {
        const data = await question.current(api, stop.signal)
        failures = 0
        if (!stop.signal.aborted) setState({ key, data, error: undefined, busy: false })
      } catch (error) {
        failures++
        if (!stop.signal.aborted) setState((old) => ({ ...old, error, busy: false }))
      }
      if (everyMs === undefined || stop.signal.aborted || document.hidden) return
      // Soon after a first failure, as what is missing may only be new; then ever later.
      timer = window.setTimeout(() => void run(), failures === 0 ? everyMs : Math.min(retryMsMax, Math.max(500, everyMs / 4) * 2 ** (failures - 1)))
    }
    const shown = (): void => {
      if (!document.hidden && everyMs !== undefined) void run()
    }
    document.addEventListener('visibilitychange', shown)
    void run()
    return () => {
      stop.abort()
      window.clearTimeout(timer)
      document.removeEventListener('visibilitychange', shown)
    }
  }, [api, key, everyMs, keep, turn])
  const current = state.key === key || keep
  return { data: current ? state.data : undefined, error: current ? state.error : undefined, busy: state.busy || !current, again }
}

export type LiveState = 'connecting' | 'open' | 'lost'

/** Readings as they become durable; of all devices, or of one. Comes back by itself, from where it was. */
export function useLive(device: string | undefined, on: (event: LiveEvent) => void, enabled = true): LiveState {
  const { api } = useAccess()
  const [state, setState] = useState<LiveState>('connecting')
  const handler = useRef(on)
  useEffect(() => {
    handler.current = on
  })
  useEffect(() => {
    if (!enabled) return undefined
    const stop = new AbortController()
    const { signal } = stop
    const follow = async (): Promise<void> => {
      for (let failures = 0; !signal.aborted; failures++) {
        try {
          for await (const event of api.live({ devices: device === undefined ? undefined : [device], signal })) {
            failures = 0
            setState('open')
            handler.current(event)
          }
        } catch {
          // Told by the state below; what the server says is seen by the other calls of the view.
          setState('lost')
        }
        if (signal.aborted) return
        setState('lost')
        await new Promise((resolve) => setTimeout(resolve, Math.min(15_000, 1_000 * 2 ** failures)))
      }
    }
    void follow()
    return () => stop.abort()
  }, [api, device, enabled])
  return state
}

/** Whether the element has come near the window yet: what lies far below need not be asked for. */
export function useNear(element: RefObject<HTMLElement | null>): boolean {
  const [near, setNear] = useState(false)
  useEffect(() => {
    if (element.current === null || near) return undefined
    const observer = new IntersectionObserver((entries) => setNear(entries.some(({ isIntersecting }) => isIntersecting)), { rootMargin: '300px' })
    observer.observe(element.current)
    return () => observer.disconnect()
  }, [element, near])
  return near
}

/** Now, renewed every `everyMs`: for ages that go on. */
export function useNow(everyMs: number): number {
  const [now, setNow] = useState(() => Date.now())
  useEffect(() => {
    const timer = window.setInterval(() => setNow(Date.now()), everyMs)
    return () => window.clearInterval(timer)
  }, [everyMs])
  return now
}

export interface Trail {
  /** Of the page that is shown; undefined: the first. */
  readonly cursor: string | undefined
  /** From 1. */
  readonly page: number
  readonly turn: (to: { readonly next: string } | 'previous') => void
}

/** Pages of a list, forwards and back. `of`: what is searched for; another search begins anew. */
export function useTrail(of: string): Trail {
  // Where the pages that were left began; the last one is shown.
  const [trail, setTrail] = useState<{ readonly of: string; readonly cursors: readonly (string | undefined)[] }>({ of, cursors: [undefined] })
  const cursors = trail.of === of ? trail.cursors : [undefined]
  return {
    cursor: cursors.at(-1),
    page: cursors.length,
    turn: (to) => setTrail({ of, cursors: to === 'previous' ? cursors.slice(0, -1) : [...cursors, to.next] }),
  }
}

/** `value` when it has not changed for `ms`. */
export function useSettled<T>(value: T, ms: number): T {
  const [settled, setSettled] = useState(value)
  useEffect(() => {
    const timer = window.setTimeout(() => setSettled(value), ms)
    return () => window.clearTimeout(timer)
  }, [value, ms])
  return settled
}
