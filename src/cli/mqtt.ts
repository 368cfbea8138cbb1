import type { Command } from 'commander'
import { Api, type QueryParameters } from './api.ts'
import { ago, bytes, count, printable, table } from './format.ts'
import type { CommonOptions } from './options.ts'
import { examples, integerBetween, serverOptions } from './options.ts'
import type { Terminal } from './terminal.ts'

interface ListOptions extends CommonOptions {
  readonly limit: number
  readonly client?: string
  readonly filter?: string
}

interface ClientAnswer {
  readonly client_id: string
  readonly address: string
  readonly transport: string
  readonly protocol: string
  readonly principal: string
  readonly connected_at: string
  readonly keep_alive_s: number
  readonly subscriptions: number
  readonly inflight: number
  readonly queued: number
  readonly messages_in: number
  readonly messages_out: number
  readonly bytes_in: number
  readonly bytes_out: number
}

interface SessionAnswer {
  readonly client_id: string
  readonly connected: boolean
  readonly expiry_s: number | null
  readonly detached_at: string | null
  readonly subscriptions: number
  readonly inflight: number
  readonly queued: number
}

interface SubscriptionAnswer {
  readonly client_id: string
  readonly filter: string
  readonly qos: number
  readonly no_local: boolean
  readonly retain_as_published: boolean
  readonly retain_handling: number
  readonly identifier: number
  readonly connected: boolean
}

interface KickAnswer {
  readonly disconnected: boolean
  readonly session_ended: boolean
}

type Cells<T> = Readonly<Record<string, (item: T) => string | number>>

const pageItems = 1_000

export function declare(command: Command, terminal: Terminal): void {
  const clients = listing(command.command('clients').description('who is connected, and what they have sent and got'))
  clients.action(async (options: ListOptions) => list<ClientAnswer>(options, terminal, 'clients', {}, clientCells()))

  const sessions = listing(command.command('sessions').description('sessions, also of clients that are away'))
  sessions.action(async (options: ListOptions) => list<SessionAnswer>(options, terminal, 'sessions', {}, sessionCells()))

  const subscriptions = listing(command.command('subscriptions').description('who has subscribed to what'))
    .option('--client <id>', 'only those of this client')
    .option('--filter <filter>', 'only those of exactly this filter')
  subscriptions.action(async (options: ListOptions) => {
    const query = { client_id: options.client, filter: options.filter }
    await list<SubscriptionAnswer>(options, terminal, 'subscriptions', query, subscriptionCells)
  })

  const kick = serverOptions(command.command('kick').description('disconnect a client; its will is published'))
    .argument('<client-id>')
    .option('--session', 'end its session as well: subscriptions, and what waits for it')
  kick.action(async (id: string, options: CommonOptions & { readonly session?: boolean }) => disconnect(id, options, terminal))

  examples(command, [
    ['kymo mqtt clients', 'who is connected'],
    ['kymo mqtt clients --json', 'a JSON object a line, with all figures'],
    ['kymo mqtt subscriptions --client gateway-7', 'what one client listens to'],
    ["kymo mqtt subscriptions --filter 'devices/+/commands'", 'who listens to a filter'],
    ['kymo mqtt sessions', 'sessions that are kept, and what waits for them'],
    ['kymo mqtt kick gateway-7 --session', 'disconnect it; it may connect again, and begins anew'],
  ])
}

function listing(command: Command): Command {
  return serverOptions(command.option('--limit <n>', 'items at most', integerBetween(1, 10_000_000), 1_000))
}

function clientCells(nowMs = Date.now()): Cells<ClientAnswer> {
  return {
    client: ({ client_id }) => client_id,
    address: ({ address }) => address,
    protocol: ({ protocol, transport }) => `${protocol} ${transport}`,
    'let in by': ({ principal }) => principal,
    connected: ({ connected_at }) => ago(Date.parse(connected_at), nowMs),
    'keep-alive': ({ keep_alive_s }) => (keep_alive_s === 0 ? 'none' : `${keep_alive_s} s`),
    filters: ({ subscriptions }) => subscriptions,
    inflight: ({ inflight }) => inflight,
    queued: ({ queued }) => queued,
    in: (client) => `${count(client.messages_in)} (${bytes(client.bytes_in)})`,
    out: (client) => `${count(client.messages_out)} (${bytes(client.bytes_out)})`,
  }
}

function sessionCells(nowMs = Date.now()): Cells<SessionAnswer> {
  return {
    client: ({ client_id }) => client_id,
    state: ({ connected, detached_at }) => (connected || detached_at === null ? 'connected' : `left ${ago(Date.parse(detached_at), nowMs)}`),
    expires: ({ expiry_s }) => (expiry_s === null ? 'never' : expiry_s === 0 ? 'with its connection' : `after ${count(expiry_s)} s`),
    filters: ({ subscriptions }) => subscriptions,
    inflight: ({ inflight }) => inflight,
    queued: ({ queued }) => queued,
  }
}

const subscriptionCells: Cells<SubscriptionAnswer> = {
  client: ({ client_id }) => client_id,
  state: ({ connected }) => (connected ? 'connected' : 'away'),
  qos: ({ qos }) => qos,
  options: (one) =>
    [
      ...(one.no_local ? ['no local'] : []),
      ...(one.retain_as_published ? ['retain as published'] : []),
      ...(one.retain_handling === 0 ? [] : [`retain handling ${one.retain_handling}`]),
      ...(one.identifier === 0 ? [] : [`identifier ${one.identifier}`]),
    ].join(', '),
  filter: ({ filter }) => filter,
}

async function list<T>(options: ListOptions, terminal: Terminal, what: string, query: QueryParameters, cells: Cells<T>): Promise<void> {
  const rows: string[][] = []
  let numbers: readonly boolean[] = []
  let more = false
  const limit = Math.min(pageItems, options.limit)
  for await (const item of new Api(options).items<T>(`/api/v1/mqtt/${what}`, { ...query, limit })) {
    if (rows.length === options.limit) {
      more = true
      break
    }
    if (options.json === true) terminal.out(JSON.stringify(item))
    const row = Object.values(cells).map((cell) => cell(item))
    numbers = row.map((cell) => typeof cell === 'number')
    rows.push(row.map((cell) => (typeof cell === 'number' ? count(cell) : cell)))
  }
  if (options.json === true) return
  const columns = Object.keys(cells).map((title, i) => (numbers[i] === true ? { title, align: 'right' as const } : { title }))
  for (const line of table(columns, rows, terminal.colors.dim)) terminal.out(line)
  terminal.err(`  ${count(rows.length)} ${what}${more ? '; there are more: --limit' : ''}`)
}

async function disconnect(id: string, options: CommonOptions & { readonly session?: boolean }, terminal: Terminal): Promise<void> {
  const response = await new Api(options).request('DELETE', `/api/v1/mqtt/clients/${encodeURIComponent(id)}`, {
    query: options.session === true ? { session: true } : {},
  })
  const answer = (await response.json()) as KickAnswer
  if (options.json === true) {
    terminal.out(JSON.stringify(answer))
    return
  }
  const what = [...(answer.disconnected ? ['disconnected'] : []), ...(answer.session_ended ? ['session ended'] : [])].join(', ')
  terminal.out(`  ${printable(id)}: ${what}`)
}
