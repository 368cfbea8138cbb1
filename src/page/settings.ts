import { useSyncExternalStore } from 'react'
import type { Zone } from './format.ts'
import { keep, kept } from './storage.ts'

export type Theme = 'auto' | 'light' | 'dark'

interface Settings {
  readonly theme: Theme
  readonly zone: Zone
}

const storageKey = 'kymo.page'
const listeners = new Set<() => void>()
let settings = read()

function read(): Settings {
  const fallback: Settings = { theme: 'auto', zone: 'local' }
  try {
    const found: unknown = JSON.parse(kept('local', storageKey) ?? '{}')
    if (typeof found !== 'object' || found === null) return fallback
    const theme = 'theme' in found && (found.theme === 'light' || found.theme === 'dark') ? found.theme : fallback.theme
    const zone = 'zone' in found && found.zone === 'utc' ? found.zone : fallback.zone
    return { theme, zone }
  } catch {
    return fallback // not written by us
  }
}

function apply(): void {
  const { dataset } = document.documentElement
  if (settings.theme === 'auto') delete dataset['theme']
  else dataset['theme'] = settings.theme
}

export function changeSettings(change: Partial<Settings>): void {
  settings = { ...settings, ...change }
  apply()
  keep('local', storageKey, JSON.stringify(settings))
  for (const listener of listeners) listener()
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener)
  return () => void listeners.delete(listener)
}

export function useSettings(): Settings {
  return useSyncExternalStore(subscribe, () => settings)
}

const darkMedia = window.matchMedia('(prefers-color-scheme: dark)')

function subscribeDark(listener: () => void): () => void {
  darkMedia.addEventListener('change', listener)
  return () => darkMedia.removeEventListener('change', listener)
}

/** What is shown, after the switch and the system's preference. */
export function useDark(): boolean {
  const { theme } = useSettings()
  const preferred = useSyncExternalStore(subscribeDark, () => darkMedia.matches)
  return theme === 'auto' ? preferred : theme === 'dark'
}

apply()
