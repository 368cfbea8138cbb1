import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import fs from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { commandTable } from '../../src/cli/command.ts'
import { createProgram, main } from '../../src/cli/main.ts'
import { settingsOf } from '../../src/cli/server-arguments.ts'
import { errorTable, KymoError } from '../../src/core/errors.ts'
import { recordedTerminal } from './fixtures/terminal.ts'

const bin = fileURLToPath(new URL('../../src/cli/bin.js', import.meta.url))

interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** The real command in a process of its own. */
function kymo(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, [bin, ...args], { env: { PATH: process.env['PATH'], HOME: os.tmpdir(), ...env } }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr })
    })
  })
}

function temporary(t: { after(fn: () => void): void }): string {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-cli-'))
  t.after(() => fs.rmSync(dir, { recursive: true, force: true }))
  return dir
}

async function inProcess(...args: string[]): Promise<Ended> {
  const terminal = recordedTerminal()
  const code = await main(args, terminal)
  process.exitCode = undefined
  return { code, stdout: terminal.stdout.join('\n'), stderr: terminal.stderr.join('\n') }
}

test('help: every command in its group, examples, exit codes; no command at all is help too', async () => {
  const help = await kymo(['--help'])
  assert.equal(help.code, 0)
  assert.equal(help.stderr, '')
  for (const { name, summary } of commandTable) assert.match(help.stdout, new RegExp(`^ {2}${name} +${summary.replace(/[().?]/g, '\\$&')}$`, 'm'))
  assert.match(help.stdout, /Exit codes: 0 done/)
  assert.deepEqual(await kymo([]), help)
})

test('every command has its own help, with examples', async () => {
  for (const { name } of commandTable) {
    const program = await createProgram((entry) => entry.name === name, recordedTerminal())
    const command = program.commands.find((candidate) => candidate.name() === name)
    let text = ''
    command?.configureOutput({ writeOut: (part) => (text += part) })
    command?.outputHelp()
    assert.match(text, new RegExp(`^Usage: kymo ${name}`), name)
    assert.match(text, /Examples:\n {2}\$ kymo /, name)
    const json = [command, ...(command?.commands ?? [])].filter((one) => one !== undefined && one.commands.length === 0)
    for (const one of json)
      assert.ok(
        one?.options.some((option) => option.long === '--json'),
        `${name} ${one?.name()} has --json`,
      )
  }
})

test('the version is that of package.json', async () => {
  const { version } = JSON.parse(fs.readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
  assert.deepEqual(await kymo(['--version']), { code: 0, stdout: `${version}\n`, stderr: '' })
})

test('an unknown command and an unknown option are usage errors with a suggestion', async () => {
  const command = await kymo(['simulte'])
  assert.equal(command.code, 2)
  assert.equal(command.stdout, '')
  assert.match(
    command.stderr,
    /^error: unknown command 'simulte'\. Did you mean simulate\? +\[KYMO-E102\]\n {2}Usage and examples: {2}kymo --help\n$/,
  )
  const option = await kymo(['load', '--devcies', '3'])
  assert.equal(option.code, 2)
  assert.match(option.stderr, /unknown option '--devcies'\. Did you mean --devices\?/)
  assert.match(option.stderr, /kymo load --help/)
  assert.match((await kymo(['dlq', 'list', '--limt', '3'])).stderr, /Usage and examples: {2}kymo dlq list --help/)
})

test('values that are not valid say what is', async () => {
  const cases: [string[], RegExp][] = [
    [['load', '--rps', 'many'], /A number from/],
    [['load', '--duration', '5 minutes'], /30s, 5m, 1h/],
    [['load', '--assert', 'p98<1ms'], /Known: lost, doubled/],
    [['load', '--mqtt', 'mqtt://127.0.0.1', '--batch', '5'], /an MQTT packet carries one message/],
    [['start', '--http-port', '70000'], /A whole number from 0 to 65535/],
    [['simulate', '--faults', 'spike,fire'], /"fire" is none of spike, dropout, stuck, drift/],
    [['query', '--agg', 'mode'], /"mode" is none of avg/],
    [['query', '--tz', 'Mars/Olympus'], /IANA/],
    [['query', '--time-zone', 'Mars/Olympus'], /IANA/],
    [['replay', 'x.csv', '--speed', '0'], /above 0/],
    [['replay'], /missing required argument 'file'/],
    [['dlq', 'replay'], /--all/],
    [['dlq', 'dismiss'], /letters to dismiss.*--all/],
    [['dlq', 'dismiss', '7', '--all'], /--all/],
    [['tokens', 'create', '--name', 'x', '--scopes', 'root'], /"root" is none of ingest, read, admin/],
    [['status', '--url', 'ftp://x'], /is not an address of a server/],
  ]
  for (const [args, expected] of cases) {
    const { code, stderr } = await inProcess(...args)
    assert.equal(code, 2, args.join(' '))
    assert.match(stderr, expected)
    assert.match(stderr, /\[KYMO-E102\]/)
  }
})

test('an unreachable server: exit 6, for people and as JSON', async () => {
  const plain = await kymo(['status', '--url', 'http://127.0.0.1:1'])
  assert.equal(plain.code, 6)
  assert.match(plain.stderr, /^error: no Kymo server answers at http:\/\/127\.0\.0\.1:1.*\[KYMO-E107\]\n {2}Start one: {2}kymo start/)
  const json = await kymo(['devices', '--json'], { KYMO_URL: 'http://127.0.0.1:1' })
  assert.equal(json.code, 6)
  const { error } = JSON.parse(json.stderr) as { error: Record<string, string> }
  assert.deepEqual([error['code'], error['id']], ['server_unreachable', 'KYMO-E107'])
})

test('colour only where it is wanted', async () => {
  const coloured = await kymo(['status', '--url', 'http://127.0.0.1:1'], { FORCE_COLOR: '1' })
  assert.ok(coloured.stderr.includes('\u001b[31m'))
  const plain = await kymo(['status', '--url', 'http://127.0.0.1:1'], { FORCE_COLOR: '1', NO_COLOR: '1' })
  assert.ok(!plain.stderr.includes('\u001b'))
})

test('below Node 24 the guard says so before anything else is read', async () => {
  const source = fs.readFileSync(bin, 'utf8')
  assert.ok(source.includes(`'${errorTable.node_too_old.text}'`), 'the text of bin.js is that of the error table')
  assert.ok(source.includes(errorTable.node_too_old.id))
  // Only what runs before the guard matters to an old Node: builtins with default imports, and nothing of ours.
  const before = source.slice(0, source.indexOf('process.exit(3)'))
  for (const line of before.split('\n').filter((candidate) => candidate.startsWith('import'))) assert.match(line, /^import \w+ from 'node:/)
  const script = `Object.defineProperty(process.versions, 'node', { value: '20.11.1' }); await import(${JSON.stringify(bin)})`
  const ended = await new Promise<Ended>((resolve) => {
    execFile(process.execPath, ['--input-type=module', '-e', script], (error, stdout, stderr) =>
      resolve({ code: Number(error?.code ?? 0), stdout, stderr }),
    )
  })
  assert.equal(ended.code, 3)
  assert.match(ended.stderr, /^error: Kymo needs Node 24 or newer.*\[KYMO-E101\]\n {2}This is Node 20\.11\.1\./)
})

test("start: any setting is a flag; a typo gets a suggestion from the schema's names", async () => {
  assert.deepEqual(settingsOf(['--store-memory-mb', '128', '--log-level=debug', '--devices-auto-register', '--mqtt-topics', 'a,b']), {
    'store.memory_mb': '128',
    'log.level': 'debug',
    'devices.auto_register': true,
    'mqtt.topics': 'a,b',
  })
  assert.deepEqual(settingsOf(['--devices-auto-register', 'off']), { 'devices.auto_register': 'off' })
  const refused = (rest: string[], text: RegExp): void =>
    assert.throws(
      () => settingsOf(rest),
      (error: unknown) => error instanceof KymoError && error.code === 'usage' && text.test(error.message),
    )
  refused(['--sotre-url', 'x'], /unknown option '--sotre-url'\. Did you mean --store-url\?/)
  refused(['--store-url'], /argument missing/)
  refused(['./data'], /too many arguments: '\.\/data'/)
})

test('tokens: created, listed without the secret, revoked', async (t) => {
  const dir = temporary(t)
  const data = ['--data', path.join(dir, 'data'), '--json']
  const created = JSON.parse((await inProcess('tokens', 'create', '--name', 'gateway', '--scopes', 'ingest', ...data)).stdout) as Record<
    string,
    string
  >
  assert.match(created['token'] ?? '', /^tk_/)
  const listed = await inProcess('tokens', 'list', ...data)
  assert.ok(!listed.stdout.includes(created['token'] ?? '-'))
  const [info] = (JSON.parse(listed.stdout) as { items: Record<string, unknown>[] }).items
  assert.deepEqual([info?.['id'], info?.['name'], info?.['scopes'], info?.['revoked_us']], [created['id'], 'gateway', ['ingest'], undefined])
  assert.equal((await inProcess('tokens', 'revoke', created['id'] ?? '', ...data)).code, 0)
  const after = JSON.parse((await inProcess('tokens', 'list', ...data)).stdout) as { items: Record<string, unknown>[] }
  assert.equal(typeof after.items[0]?.['revoked_us'], 'number')
  const missing = await inProcess('tokens', 'revoke', 'nobody', '--data', path.join(dir, 'data'))
  assert.equal(missing.code, 1)
  assert.match(missing.stderr, /there is no token nobody.*\[KYMO-E404\]/)
})

test('the log of a directory that has none', async (t) => {
  const { code, stderr } = await inProcess('log', 'verify', '--data', temporary(t))
  assert.equal(code, 1)
  assert.match(stderr, /There is no log in/)
})

/** Answers as the API does: problem details, pages, an event stream. */
async function fakeApi(t: { after(fn: () => void): void }): Promise<string> {
  const letter = {
    id: '7',
    time: '2026-11-20T12:00:00Z',
    code: 'value_invalid',
    detail: 'no',
    errors: [{ pointer: '/t', detail: 'must be a number' }],
    transport: 'mqtt',
    client: 'c',
    topic: 't',
    bytes_total: 3,
    truncated: false,
    status: 'waiting',
  }
  const server = http.createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://fake')
    const send = (body: unknown, status = 200): void =>
      void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    if (request.headers.authorization !== 'Bearer tk_good')
      send({ type: 'about:blank', status: 401, code: 'unauthenticated', detail: 'Credentials are missing or not valid.', request_id: 'r1' }, 401)
    else if (url.pathname === '/api/v1/devices') {
      const second = url.searchParams.get('cursor') === 'next'
      const device = {
        id: second ? 'b' : 'evil\u001b[31m',
        name: '',
        type: '',
        status: 'active',
        attributes: {},
        metadata: {},
        created_at: '2026-11-20T12:00:00Z',
        last_seen: null,
      }
      send({ items: [device], next_cursor: second ? null : 'next' })
    } else if (url.pathname === '/api/v1/dead-letters') send({ items: [letter], next_cursor: null })
    else if (url.pathname === '/api/v1/dead-letters/replay')
      send({ replayed: 0, failed: 1, results: [{ id: '7', ok: false, code: 'value_invalid', detail: 'still' }] })
    else if (url.pathname === '/api/v1/dead-letters/dismiss') {
      let body = ''
      request.on('data', (chunk: Buffer) => (body += String(chunk)))
      request.on('end', () => {
        const { ids = ['1', '2'] } = JSON.parse(body) as { ids?: string[] }
        send({ dismissed: ids.length, failed: 0, results: ids.map((id) => ({ id, ok: true })) })
      })
    } else if (url.pathname === '/api/v1/query') {
      const first = url.searchParams.get('cursor') === null
      const gap = ['gaps', 'step', 'tz'].map((name) => url.searchParams.get(name)).join(' ') === 'null 1d Europe/Berlin'
      send({
        from: null,
        to: null,
        order: 'asc',
        rows: 1,
        ...(url.searchParams.get('agg') === 'p95' ? { exact: false, relative_error: 0.01, ...(first ? { partial: true } : {}) } : {}),
        truncated: first,
        next_cursor: first ? 'more' : null,
        series: [{ device: 'd,1', metric: 'm' }],
        columns: { time: [first ? 0 : 1_000.5], series: [0], value: [gap ? -1 : first ? 21.5 : null] },
      })
    } else if (url.pathname === '/api/v1/live') {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write(
        ': connected\n\nevent: gap\ndata: {"dropped":3}\n\nid: 5\nevent: readings\ndata: {"readings":[{"device":"d","metric":"m","time":"2026-11-20T12:00:00.5Z","value":1.5,"unit":"C"},{"device":"d","metric":"n","time":"2026-11-20T12:00:01Z","value":true}]}\n\n',
      )
    } else send({ type: 'about:blank', status: 404, code: 'not_found', detail: 'There is no such thing here.' }, 404)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

test('commands that read from a server: pages, problems, and nothing that steers the terminal', async (t) => {
  const url = await fakeApi(t)
  const common = ['--url', url, '--token', 'tk_good']
  const denied = await inProcess('devices', '--url', url)
  assert.equal(denied.code, 1)
  assert.match(denied.stderr, /Credentials are missing.*\[KYMO-E401\]\n {2}Give a token/)

  const devices = await inProcess('devices', ...common)
  assert.match(devices.stdout, /^evil\\x1b\[31m +active/m)
  assert.match(devices.stdout, /^b +/m)
  assert.equal((await inProcess('devices', ...common, '--json')).stdout.split('\n').length, 2)

  const query = await inProcess('query', ...common, '--format', 'csv', '--all')
  assert.equal(query.stdout, 'time,device,metric,value\n1970-01-01T00:00:00.000Z,"d,1",m,21.5\n1970-01-01T00:00:01.000Z,"d,1",m,')
  const days = await inProcess('query', ...common, '--step', '1d', '--tz', 'Europe/Berlin', '--gaps')
  assert.match(days.stdout, /^1970-01-01 01:00:00\.000 +d,1 +m +-1$/m)
  const cut = await inProcess('query', ...common, '--limit', '1')
  assert.match(cut.stderr, /1 rows; there are more/)
  assert.doesNotMatch(cut.stderr, /percentiles/)
  for (const format of ['table', 'csv', 'ndjson']) {
    const rough = await inProcess('query', ...common, '--step', '1h', '--agg', 'p95', '--all', '--format', format)
    assert.match(rough.stderr, /percentiles are within 1 % of a reading, all other columns are exact\n {2}partial: buckets/, format)
  }

  assert.match((await inProcess('dlq', 'list', ...common)).stdout, /7 {2}2026-11-20T12:00:00\.000Z {2}value_invalid {2}waiting +t +3 B {2}\/t: no/)
  const replayed = await inProcess('dlq', 'replay', '7', ...common)
  assert.deepEqual([replayed.code, /7 {2}value_invalid {2}still/.test(replayed.stdout)], [1, true])
  assert.equal((await inProcess('dlq', 'show', '9', ...common)).code, 1)
  const dismissed = await inProcess('dlq', 'dismiss', '7', '8', '9', ...common)
  assert.deepEqual([dismissed.code, dismissed.stdout], [0, '  dismissed 3  failed 0'])
  assert.equal((await inProcess('dlq', 'dismiss', '--all', ...common)).stdout, '  dismissed 2  failed 0')
  assert.deepEqual(JSON.parse((await inProcess('dlq', 'dismiss', '7', '--json', ...common)).stdout), {
    dismissed: 1,
    failed: 0,
    results: [{ id: '7', ok: true }],
  })
})

test('tail: a filter is for messages, a device for readings; a server without MQTT over WebSocket says which setting that is', async () => {
  assert.match((await inProcess('tail', 'a/#', '--device', 'd')).stderr, /give the one or the other/)
  assert.match((await inProcess('tail', 'a/#', '--url', 'ftp://x')).stderr, /not an address of a server/)
  const server = http.createServer((_request, response) => response.writeHead(404).end())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const tail = await inProcess('tail', 'a/#', '--url', `http://127.0.0.1:${port}`)
  server.close()
  assert.match(tail.stderr, /the server offers none \(mqtt\.ws\)/)
  assert.notEqual(tail.code, 0)
})

test('tail: a table with times in the wanted zone, a gap told, an end after so many', async (t) => {
  const url = await fakeApi(t)
  const tail = await inProcess('tail', '--url', url, '--token', 'tk_good', '-n', '2', '--time-zone', 'Europe/Berlin')
  assert.equal(tail.code, 0)
  assert.match(tail.stdout, /^2026-11-20 13:00:00\.500 +d +m +1\.5 C\n2026-11-20 13:00:01\.000 +d +n +true$/m)
  assert.match(tail.stderr, /3 readings came faster/)
  const json = await inProcess('tail', '--url', url, '--token', 'tk_good', '-n', '1', '--json')
  assert.deepEqual(
    json.stdout.split('\n').map((line) => (JSON.parse(line) as Record<string, unknown>)['value'] ?? 'gap'),
    ['gap', 1.5],
  )
})
