/** Browsers may refuse storage (a setting, a private window): then what is kept lasts as long as the page. */
function storageOf(kind: 'local' | 'session'): Storage | undefined {
  try {
    return kind === 'local' ? window.localStorage : window.sessionStorage
  } catch {
    return undefined
  }
}

export function kept(kind: 'local' | 'session', key: string): string | undefined {
  return storageOf(kind)?.getItem(key) ?? undefined
}

/** Undefined forgets it. Gives false where nothing can be kept. */
export function keep(kind: 'local' | 'session', key: string, value: string | undefined): boolean {
  try {
    if (value === undefined) storageOf(kind)?.removeItem(key)
    else storageOf(kind)?.setItem(key, value)
    return true
  } catch {
    return false // it is full, or read-only
  }
}
