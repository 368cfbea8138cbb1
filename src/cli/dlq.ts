import process from 'node:process'
import type { Command } from 'commander'
import { KymoError } from '../core/errors.ts'
import { Api } from './api.ts'
import { Exit } from './exit.ts'
import { bytes, count, printable, table, time } from './format.ts'
import type { CommonOptions } from './options.ts'
import { examples, integerBetween, oneOf, serverOptions, timeZoneOption } from './options.ts'
import type { Terminal } from './terminal.ts'

interface ListOptions extends CommonOptions {
  readonly limit: number
  readonly code?: string
  readonly client?: string
  readonly status?: string
  readonly timeZone?: string
}

interface LetterAnswer {
  readonly id: string
  readonly time: string
  readonly code: string
  readonly detail: string
  readonly errors: readonly { readonly pointer: string; readonly detail: string }[]
  readonly transport: string
  readonly client: string
  readonly topic: string
  readonly bytes_total: number
  readonly truncated: boolean
  readonly status: string
  readonly body?: string
  readonly body_encoding?: 'utf8' | 'base64'
}

interface SettledAnswer {
  readonly failed: number
  readonly results: readonly { readonly id: string; readonly ok: boolean; readonly code?: string; readonly detail?: string }[]
}

interface ReplayAnswer extends SettledAnswer {
  readonly replayed: number
}

interface DismissAnswer extends SettledAnswer {
  readonly dismissed: number
}

interface ChosenOptions extends CommonOptions {
  readonly all?: boolean
}

const statuses = ['waiting', 'replayed', 'dismissed'] as const
const pageItems = 100

export function declare(command: Command, terminal: Terminal): void {
  const list = command
    .command('list')
    .description('dead letters, newest first')
    .option('--limit <n>', 'letters at most', integerBetween(1, 1_000_000), 50)
    .option('--code <code>', 'only those refused with this code, such as value_invalid')
    .option('--client <id>', 'only those of this MQTT client or HTTP peer')
    .option('--status <status>', statuses.join(', '), oneOf(statuses))
  timeZoneOption(serverOptions(list)).action(async (options: ListOptions) => listLetters(options, terminal))

  const show = command.command('show').description('one dead letter, with its original bytes').argument('<id>')
  timeZoneOption(serverOptions(show))
    .option('--raw', 'only the original bytes')
    .action(async (id: string, options: ListOptions & { readonly raw?: boolean }) => showLetter(id, options, terminal))

  const replay = command.command('replay').description('offer dead letters again, after a fix').argument('[ids...]')
  serverOptions(replay)
    .option('--all', 'all that wait')
    .action(async (ids: string[], options: ChosenOptions) => replayLetters(ids, options, terminal))

  const dismiss = command.command('dismiss').description('settle dead letters that nobody needs').argument('[ids...]')
  serverOptions(dismiss)
    .option('--all', 'all that wait')
    .action(async (ids: string[], options: ChosenOptions) => dismissLetters(ids, options, terminal))

  examples(command, [
    ['kymo dlq list --code value_invalid', 'what was refused, and why'],
    ['kymo dlq show 17 --raw', 'the bytes as the device sent them'],
    ['kymo dlq replay 17 18', 'try two again'],
    ['kymo dlq replay --all', 'try everything that waits again'],
    ['kymo dlq dismiss 17', 'it is of no use: no longer waiting, never replayed'],
  ])
}

async function listLetters(options: ListOptions, terminal: Terminal): Promise<void> {
  const api = new Api(options)
  const rows: string[][] = []
  let more = false
  const filter = { code: options.code, client: options.client, status: options.status, limit: Math.min(pageItems, options.limit) }
  for await (const letter of api.items<LetterAnswer>('/api/v1/dead-letters', filter)) {
    if (rows.length === options.limit) {
      more = true
      break
    }
    if (options.json === true) terminal.out(JSON.stringify(letter))
    const pointer = letter.errors[0]?.pointer
    rows.push([
      letter.id,
      time(Date.parse(letter.time), options.timeZone),
      letter.code,
      letter.status,
      letter.topic,
      bytes(letter.bytes_total),
      `${pointer === undefined || pointer === '' ? '' : `${pointer}: `}${letter.detail}`,
    ])
  }
  if (options.json === true) return
  const columns = [
    { title: 'id', align: 'right' },
    { title: 'time' },
    { title: 'code' },
    { title: 'status' },
    { title: 'topic' },
    { title: 'size', align: 'right' },
    { title: 'why' },
  ] as const
  for (const line of table(columns, rows, terminal.colors.dim)) terminal.out(line)
  terminal.err(`  ${count(rows.length)} letters${more ? '; there are more: --limit' : ''}`)
}

async function showLetter(id: string, options: ListOptions & { readonly raw?: boolean }, terminal: Terminal): Promise<void> {
  const letter = await new Api(options).json<LetterAnswer>(`/api/v1/dead-letters/${encodeURIComponent(id)}`)
  if (options.json === true) {
    terminal.out(JSON.stringify(letter))
    return
  }
  const body = Buffer.from(letter.body ?? '', letter.body_encoding === 'base64' ? 'base64' : 'utf8')
  if (options.raw === true) {
    process.stdout.write(body)
    return
  }
  const facts = [
    ['id', letter.id],
    ['time', time(Date.parse(letter.time), options.timeZone)],
    ['why', `${letter.code}: ${letter.detail}`],
    ...letter.errors.map(({ pointer, detail }) => [pointer === '' ? 'body' : pointer, detail]),
    ['status', letter.status],
    ['from', `${letter.transport} ${letter.client}`],
    ['topic', letter.topic],
    ['size', `${count(letter.bytes_total)} bytes${letter.truncated ? `, of which the first ${count(body.length)} were kept` : ''}`],
  ]
  for (const line of table([{ title: '' }, { title: '' }], facts).slice(1)) terminal.out(line)
  terminal.out('')
  // What a stranger sent goes to the terminal without its control characters.
  for (const line of body.toString('utf8').split('\n')) terminal.out(printable(line))
}

async function replayLetters(ids: readonly string[], options: ChosenOptions, terminal: Terminal): Promise<void> {
  const answer = await new Api(options).post<ReplayAnswer>('/api/v1/dead-letters/replay', chosen(ids, options, 'replay'))
  tellSettled(answer, `replayed ${count(answer.replayed)}  failed again ${count(answer.failed)}`, options, terminal)
}

async function dismissLetters(ids: readonly string[], options: ChosenOptions, terminal: Terminal): Promise<void> {
  const answer = await new Api(options).post<DismissAnswer>('/api/v1/dead-letters/dismiss', chosen(ids, options, 'dismiss'))
  tellSettled(answer, `dismissed ${count(answer.dismissed)}  failed ${count(answer.failed)}`, options, terminal)
}

function chosen(ids: readonly string[], options: ChosenOptions, verb: string): { readonly all: true } | { readonly ids: readonly string[] } {
  if ((ids.length === 0) === (options.all !== true))
    throw new KymoError('usage', { detail: `name the letters to ${verb}, or say --all`, facts: { command: `kymo dlq ${verb}` } })
  return options.all === true ? { all: true } : { ids }
}

function tellSettled(answer: SettledAnswer, summary: string, options: CommonOptions, terminal: Terminal): void {
  if (options.json === true) terminal.out(JSON.stringify(answer))
  else {
    for (const result of answer.results) if (!result.ok) terminal.out(`  ${result.id}  ${result.code ?? ''}  ${printable(result.detail ?? '')}`)
    terminal.out(`  ${summary}`)
  }
  if (answer.failed > 0) process.exitCode = Exit.refused
}
