import type { Command } from 'commander'
import { setTimeout as delay } from 'node:timers/promises'
import { KymoError } from '../core/errors.ts'
import { Api } from './api.ts'
import { time } from './format.ts'
import type { CommonOptions } from './options.ts'
import { examples, serverOptions, timeZoneOption } from './options.ts'
import type { Terminal } from './terminal.ts'

interface EraseOptions extends CommonOptions {
  readonly yes?: true
  readonly wait?: boolean
  readonly timeZone?: string
}

interface ErasureAnswer {
  readonly id: string
  readonly device: string
  readonly state: 'accepted' | 'hidden' | 'done'
  readonly remains: {
    readonly log: { readonly bytes: number; readonly kept_bytes: number | null; readonly until: string | null } | null
    readonly dead_letters_until: string | null
    readonly snapshots: readonly { readonly id: string; readonly created_at: string }[]
  }
}

const pollMs = 500

/** `kymo devices erase` and `kymo devices erasures`. */
export function declareErasures(command: Command, terminal: Terminal): void {
  const erase = command
    .command('erase <id>')
    .description('erase all data of a device, from sealed files too')
    .option('--yes', 'yes, erase it: nothing brings it back but a backup')
    .option('--no-wait', 'return as soon as it is accepted')
  serverOptions(erase)
  timeZoneOption(erase)
  examples(erase, [['kymo devices erase dev-1 --yes', 'readings, rollups, latest values, registration; then what still has them']])
  // Options that stand before the name of the subcommand are those of `devices`.
  erase.action(async (id: string, _: unknown, self: Command) => eraseOne(id, self.optsWithGlobals<EraseOptions>(), terminal))
  const list = command.command('erasures').description('erasures, newest first, and what may still have the data')
  serverOptions(list)
  timeZoneOption(list)
  list.action(async (_: unknown, self: Command) => listAll(self.optsWithGlobals<EraseOptions>(), terminal))
}

async function eraseOne(id: string, options: EraseOptions, terminal: Terminal): Promise<void> {
  if (options.yes !== true) {
    throw new KymoError('usage', {
      detail: `All data of ${id} would be erased, and nothing brings it back but a backup. Say --yes to do it.`,
      facts: { command: 'kymo devices erase' },
    })
  }
  const api = new Api(options)
  const response = await api.request('DELETE', `/api/v1/devices/${encodeURIComponent(id)}/data`)
  let erasure = (await response.json()) as ErasureAnswer
  while (options.wait !== false && erasure.state !== 'done') {
    await delay(pollMs)
    erasure = await api.json<ErasureAnswer>(`/api/v1/erasures/${erasure.id}`)
  }
  if (options.json === true) terminal.out(JSON.stringify(erasure))
  else show(erasure, options, terminal)
}

async function listAll(options: EraseOptions, terminal: Terminal): Promise<void> {
  for await (const erasure of new Api(options).items<ErasureAnswer>('/api/v1/erasures', {})) {
    if (options.json === true) terminal.out(JSON.stringify(erasure))
    else show(erasure, options, terminal)
  }
}

const said = {
  accepted: 'accepted: it is in the log and will be carried out',
  hidden: 'nobody reads it any more; files that have it are being written again',
  done: 'done: no file of the store has it',
} as const

function show({ id, device, state, remains }: ErasureAnswer, options: EraseOptions, terminal: Terminal): void {
  const { green, dim } = terminal.colors
  terminal.out(`${state === 'done' ? green('✓') : '…'} ${device}   ${said[state]}   ${dim(id)}`)
  const { log, dead_letters_until: until, snapshots } = remains
  if (log !== null) {
    terminal.out(`  the log still has it, until it is larger than ${log.kept_bytes} bytes (log.retention_bytes); it has ${log.bytes} now`)
    if (log.until !== null) terminal.out(`    ${time(Date.parse(log.until), options.timeZone)} at the latest (log.retention_age)`)
  }
  if (until !== null) terminal.out(`  dead letters may be of it, until ${time(Date.parse(until), options.timeZone)} at the latest`)
  if (snapshots.length > 0) {
    terminal.out(`  backups made of these snapshots have it (kymo backup list DIR, kymo backup delete DIR ID):`)
    for (const one of snapshots) terminal.out(`    ${time(Date.parse(one.created_at), options.timeZone)}   ${dim(one.id)}`)
  }
}
