import type { Started } from './process.ts'

export interface Running {
  readonly processes: Readonly<Record<string, Started>>
  /** What tests find it by. */
  readonly env: Readonly<Record<string, string>>
}

/** An engine that tests need and that is no part of Kymo. */
export interface Service {
  readonly name: 'kafka' | 'postgres' | 'mosquitto'
  /** What this machine lacks for it, and how to have it; undefined: nothing. */
  missing(): string | undefined
  /** Starts it with its data below `dir`, on ports of its own; resolves when it takes connections. */
  start(dir: string): Promise<Running>
  stop(processes: Running['processes']): Promise<void>
  /** Removes what it has elsewhere than in `dir`, which goes as well. */
  purge?(dir: string): void
}
