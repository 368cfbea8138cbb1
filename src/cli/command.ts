import type { Command } from 'commander'
import type { Terminal } from './terminal.ts'

/** What a command's file exports: its options and its action, loaded when somebody asks for this command. */
export interface CommandModule {
  /** The action sets `process.exitCode` when it is not 0, or throws a KymoError. */
  declare(command: Command, terminal: Terminal): void
}

export interface CommandEntry {
  readonly name: string
  readonly summary: string
  readonly group: string
  readonly load: () => Promise<CommandModule>
}

const running = 'Running'
const sending = 'Sending'
const reading = 'Reading'
const keeping = 'Keeping'

/** Every command, in the order of the help. The files load one by one: `kymo --help` reads none of them. */
export const commandTable: readonly CommandEntry[] = [
  { name: 'start', group: running, summary: 'run the platform: MQTT and HTTP in, queries out', load: () => import('./start.ts') },
  { name: 'status', group: running, summary: 'is the server ready, and how far behind is each consumer', load: () => import('./status.ts') },
  {
    name: 'doctor',
    group: running,
    summary: 'check this machine, the data directory and the server; each finding with its fix',
    load: () => import('./doctor/command.ts'),
  },
  { name: 'config', group: running, summary: 'settings: show, check a file, reload, print the reference', load: () => import('./config/command.ts') },
  { name: 'explain', group: running, summary: 'what an error means and what to do: kymo explain KYMO-E104', load: () => import('./explain.ts') },
  {
    name: 'simulate',
    group: sending,
    summary: 'simulated devices: temperature, humidity, battery, faults on demand',
    load: () => import('./simulate/command.ts'),
  },
  {
    name: 'load',
    group: sending,
    summary: 'put a load on a server, then count what was acknowledged and stored',
    load: () => import('./load/command.ts'),
  },
  { name: 'replay', group: sending, summary: 'send a CSV file of real readings, at any speed', load: () => import('./replay/command.ts') },
  { name: 'import', group: sending, summary: 'bring history in: CSV, NDJSON or Parquet, resumable', load: () => import('./import/command.ts') },
  { name: 'tail', group: reading, summary: 'follow readings as they become durable, or messages of an MQTT filter', load: () => import('./tail.ts') },
  { name: 'query', group: reading, summary: 'readings or aggregates of a time range', load: () => import('./query.ts') },
  {
    name: 'export',
    group: reading,
    summary: 'take history out: CSV, NDJSON or Parquet, also in increments',
    load: () => import('./export/command.ts'),
  },
  { name: 'sql', group: reading, summary: 'one SELECT over readings, rollups and devices', load: () => import('./sql.ts') },
  {
    name: 'analytics',
    group: reading,
    summary: 'summary of all devices, temperature anomalies, low batteries, silent devices',
    load: () => import('./analytics.ts'),
  },
  {
    name: 'forecast',
    group: reading,
    summary: 'what a series is going to be, with intervals; or how probable it is that it crosses a value',
    load: () => import('./forecast.ts'),
  },
  {
    name: 'models',
    group: reading,
    summary: 'forecasting models: train, list, show, test, promote; score them on a file of past readings',
    load: () => import('./models/command.ts'),
  },
  { name: 'anomalies', group: reading, summary: 'anomaly detectors: score them on labelled series', load: () => import('./anomalies/command.ts') },
  { name: 'devices', group: reading, summary: 'list devices, show one with its latest values, erase one', load: () => import('./devices.ts') },
  { name: 'dlq', group: keeping, summary: 'messages that could not be used: list, show, replay', load: () => import('./dlq.ts') },
  {
    name: 'backup',
    group: keeping,
    summary: 'copy all data, beside a running server or of a stopped one; list, verify, delete',
    load: () => import('./backup/command.ts'),
  },
  {
    name: 'restore',
    group: keeping,
    summary: 'make a data directory from a backup, also as of a moment',
    load: () => import('./backup/restore-command.ts'),
  },
  { name: 'log', group: keeping, summary: 'verify or repair the log of a stopped server', load: () => import('./log.ts') },
  {
    name: 'store',
    group: keeping,
    summary: 'verify the files of the store; make or update its tables',
    load: () => import('./store/command.ts'),
  },
  {
    name: 'mqtt',
    group: keeping,
    summary: 'clients of the broker: who is connected, sessions, subscriptions; disconnect one',
    load: () => import('./mqtt.ts'),
  },
  { name: 'tokens', group: keeping, summary: 'create, list and revoke API tokens', load: () => import('./tokens.ts') },
]
