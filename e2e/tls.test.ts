import assert from 'node:assert/strict'
import { once } from 'node:events'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { after, before, describe, it } from 'node:test'
import tls from 'node:tls'
import { eventually } from '../test/support/api.ts'
import { Certificates, type Pair } from '../test/support/certificates.ts'
import { shell, without } from '../test/support/programs.ts'
import { cleanEnv, RunningServer, runKymo } from '../test/support/server.ts'

const root = path.resolve(import.meta.dirname, '..')
const noTools = without('openssl', 'curl', 'mosquitto_pub')
const page = fs.readFileSync(path.join(root, 'docs/reference/tls.md'), 'utf8')
/** The commands of the page, block by block. */
const blocks = [...page.matchAll(/^```sh\n([^]*?)^```$/gm)].map(([, text]) => text!.trim())

const flagsOf = (pair: Pair, more: readonly string[] = []): string[] => [
  ...['http', 'mqtt'].flatMap((door) => [`--${door}-tls-cert-file`, pair.cert, `--${door}-tls-key-file`, pair.key]),
  '--mqtt-tls-port',
  '0',
  ...more,
]

interface Lock {
  readonly pid: number
  readonly urls: { readonly http: string; readonly mqtt: string; readonly mqtts?: string }
}
const lockOf = (server: RunningServer): Lock => JSON.parse(fs.readFileSync(path.join(server.data, 'kymo.lock'), 'utf8')) as Lock
const mqttsPort = (server: RunningServer): string => new URL(lockOf(server).urls.mqtts!).port

describe('the commands of docs/reference/tls.md', { skip: noTools }, () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-tls-page-'))
  const inDir = (name: string): string => path.join(dir, name)
  let server: RunningServer | undefined
  after(async () => {
    await server?.dispose()
    fs.rmSync(dir, { recursive: true, force: true })
  })
  /** Word for word, but for the ports, which may be taken here, and the program, which may not be installed. */
  const run = (block: string): Promise<string> => {
    const [http, mqtts] = server === undefined ? ['8080', '8883'] : [String(server.httpPort), mqttsPort(server)]
    const kymo = `${process.execPath} ${path.join(root, 'src/cli/bin.js')}`
    const lines = block
      .replaceAll(/^kymo /gm, `${kymo} `)
      .replaceAll(/\b8080\b/g, http)
      .replaceAll(/\b8883\b/g, mqtts)
    return shell(`cd ${dir} && set -e && ${lines}`, { timeoutMs: 60_000, env: cleanEnv() })
  }
  const started = (more: readonly string[]): Promise<RunningServer> =>
    RunningServer.start({
      args: [
        '--mqtt-tls-port',
        '0',
        ...more,
        ...['http', 'mqtt'].flatMap((d) => [`--${d}-tls-cert-file=${inDir('cert.pem')}`, `--${d}-tls-key-file=${inDir('key.pem')}`]),
      ],
    })

  it('make certificates, send, ask, simulate and load over TLS', async () => {
    assert.equal(blocks.length, 4)
    await run(blocks[0]!)
    server = await started([])
    const said = await run(blocks[1]!)
    assert.match(said, /http certificate {3}CN=localhost until .*, 89 days/)
    assert.match(said, /tls-http? .*|21\.5/)
    assert.match(said, /stored 10 \(read back\)/)
    const found = await run('kymo query --url https://localhost:8080 --ca ca.pem --device tls-mqtt')
    assert.match(found, /tls-mqtt +temperature +22\.5/)
  })

  it('with certificates of clients', async () => {
    await server?.dispose()
    server = undefined
    await run(blocks[2]!)
    server = await started(['--mqtt-tls-client-certificates=require', `--mqtt-tls-ca-file=${inDir('ca.pem')}`])
    await run(blocks[3]!)
    const found = await run('kymo query --url https://localhost:8080 --ca ca.pem --device sensor-7')
    assert.match(found, /sensor-7 +temperature +23\.5/)
    await assert.rejects(run('mosquitto_pub -h localhost -p 8883 --cafile ca.pem -t portfolio/telemetry -q 1 -m x'))
  })
})

describe('a server with TLS', { skip: noTools }, () => {
  let made: Certificates
  let pair: Pair
  let server: RunningServer
  before(async () => {
    made = new Certificates()
    pair = made.pair('server')
    server = await RunningServer.start({ args: flagsOf(pair, ['--mqtt-plain', 'false']) })
  })
  after(async () => {
    await server?.dispose()
    made.remove()
  })
  const fingerprintAt = async (port: number): Promise<string> => {
    const socket = tls.connect({ port, host: '127.0.0.1', servername: 'localhost', ca: fs.readFileSync(made.ca) })
    await once(socket, 'secureConnect')
    const shown = socket.getPeerX509Certificate()?.fingerprint256 ?? ''
    socket.end()
    return shown
  }

  it('takes a renewed certificate over at `kymo config reload`, refuses a wrong pair, and says so everywhere', async () => {
    const [before, renewed, stray] = [await fingerprintAt(server.httpPort), made.pair('renewed'), made.pair('stray')]
    made.replace(pair, renewed)
    const done = await runKymo(['config', 'reload', '--data', server.data])
    assert.equal(done.code, 0, done.output)
    assert.match(done.output, /✓ http certificate is now CN=renewed, until 20.*\n.*✓ mqtt certificate is now CN=renewed/)
    const after = await fingerprintAt(server.httpPort)
    assert.notEqual(after, before)
    assert.equal(await fingerprintAt(Number(mqttsPort(server))), after)

    fs.copyFileSync(stray.key, pair.key)
    const refused = await runKymo(['config', 'reload', '--data', server.data])
    assert.equal(refused.code, 3, refused.output)
    assert.match(refused.output, /✗ http certificate stays CN=renewed: http\.tls\.key_file: .* is not the key of .*\[KYMO-E112\]/)
    assert.equal(await fingerprintAt(server.httpPort), after)
    const ready = await shell(`curl -s --fail --cacert ${made.ca} 'https://localhost:${server.httpPort}/readyz?verbose=true'`)
    assert.match(
      ready,
      /\[\+\] http certificate: CN=renewed until .*; the one on disk is not used: The private key does not belong to the certificate\. \[KYMO-E112\]/,
    )
    const doctor = await runKymo(['doctor', '--data', server.data, ...flagsOf(pair)])
    assert.equal(doctor.code, 3, doctor.output)
    assert.match(doctor.output, /✗ http certificate +http\.tls\.key_file: .* is not the key of .*\[KYMO-E112\]/)
    assert.match(doctor.output, /✓ server +ready at https:/)
    fs.copyFileSync(renewed.key, pair.key)
    assert.equal((await runKymo(['config', 'reload', '--data', server.data])).code, 0)
  })

  it('runs jobs, and is backed up, though nobody tells them whom to trust', async () => {
    const url = `https://localhost:${server.httpPort}`
    const curl = `curl -s --fail --cacert ${made.ca}`
    const csv = 'time,device,temperature\n2026-01-01T00:00:00Z,imported,1.5\n'
    const job = JSON.parse(
      await shell(`printf '${csv.replaceAll('\n', '\\n')}' | ${curl} ${url}/api/v1/imports -H 'content-type: text/csv' --data-binary @-`),
    ) as { id: string }
    const state = await eventually(async () => {
      const text = await shell(`${curl} ${url}/api/v1/jobs/${job.id}`)
      const found = JSON.parse(text) as { state: string }
      return found.state === 'done' || found.state === 'failed' ? text : undefined
    }, 30_000)
    assert.match(state, /"state":"done"/)
    const backup = await runKymo(['backup', path.join(made.dir, 'backup'), '--data', server.data])
    assert.equal(backup.code, 0, backup.output)
  })

  it('comes back on the same ports after a kill', async () => {
    const { http, mqtts } = lockOf(server).urls
    const { pid } = lockOf(server)
    process.kill(pid, 'SIGKILL')
    const again = await eventually(async () => {
      const lock = lockOf(server)
      return lock.pid !== pid && lock.urls.http !== undefined ? lock : undefined
    }, 30_000)
    assert.deepEqual([again.urls.http, again.urls.mqtts], [http, mqtts])
    assert.match(await fingerprintAt(server.httpPort), /^[0-9A-F:]{95}$/)
  })
})

describe('a start that cannot speak TLS', { skip: noTools }, () => {
  let made: Certificates
  before(() => {
    made = new Certificates()
  })
  after(() => made.remove())

  it('ends with exit code 3, the error’s id and what to look at', async () => {
    const [good, other, ended] = [made.pair('good'), made.pair('other'), made.pair('ended', { days: -2 })]
    for (const [pair, text] of [
      [{ ...good, key: other.key }, /http\.tls\.key_file: .*other\.key is not the key of .*good\.pem \(CN=good\) +\[KYMO-E112\]/],
      [ended, /http\.tls\.cert_file: .*ended\.pem \(CN=ended\) has expired on 20.* +\[KYMO-E113\]/],
      [{ ...good, cert: '/nowhere/cert.pem' }, /http\.tls\.cert_file: \/nowhere\/cert\.pem cannot be read: ENOENT.* +\[KYMO-E110\]/],
      [{ ...good, cert: good.key }, /holds no certificate in PEM: it holds a private key +\[KYMO-E111\]/],
    ] as const) {
      const data = path.join(made.dir, 'data')
      const ended = await runKymo(['start', '--data', data, '--http-port', '0', '--mqtt-port', '0', ...flagsOf(pair)])
      assert.equal(ended.code, 3, ended.output)
      assert.match(ended.output, text)
      assert.match(ended.output, /kymo explain KYMO-E11\d/)
    }
    const half = await runKymo(['start', '--data', path.join(made.dir, 'data'), '--http-tls-cert-file', good.cert])
    assert.deepEqual([half.code, /http\.tls\.key_file: is missing/.test(half.output)], [3, true], half.output)
  })
})
