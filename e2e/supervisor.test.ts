import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { after, describe, it } from 'node:test'
import { eventually, readings, settled } from '../test/support/api.ts'
import { isAlive, runKymo, RunningServer } from '../test/support/server.ts'

const data = mkdtempSync(path.join(os.tmpdir(), 'kymo-e2e-start-'))
after(() => rmSync(data, { recursive: true, force: true }))

async function send(base: string, seq: number): Promise<void> {
  const body = JSON.stringify({ device: 'd', time: 1_700_000_000 + seq, values: { seq } })
  const answer = await fetch(`${base}/api/v1/telemetry`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
  assert.equal(answer.status, 202, await answer.text())
}

async function stored(base: string): Promise<unknown[]> {
  await settled(base)
  return (await readings(base, { device: 'd' })).map((reading) => reading.value)
}

describe('the supervisor', () => {
  for (const signal of ['SIGABRT', 'SIGSEGV', 'SIGKILL'] as const) {
    it(`starts the server again after ${signal}, on the same ports, with what was acknowledged`, async () => {
      const server = await RunningServer.start()
      try {
        await send(server.http, 1)
        const before = server.currentServerPid()!
        assert.notEqual(before, server.pid, 'the server is a process of its own')
        process.kill(before, signal)
        await eventually(async () => {
          const now = server.currentServerPid()
          return now !== undefined && now !== before && (await fetch(`${server.http}/readyz`)).status === 200 ? true : undefined
        })
        assert.ok(server.output.includes(signal), server.output)
        await send(server.http, 2)
        assert.deepEqual(await stored(server.http), [1, 2])
        const ended = await server.stop()
        assert.equal(ended.code, 0, ended.output)
      } finally {
        await server.dispose()
      }
    })
  }
  it('does not outlive its supervisor', async () => {
    const server = await RunningServer.start()
    try {
      const child = server.currentServerPid()!
      process.kill(server.pid, 'SIGKILL')
      await eventually(async () => (isAlive(child) ? undefined : true))
    } finally {
      await server.dispose()
    }
  })
})

describe('kymo start refuses clearly', () => {
  it('a second start in the same folder: says where it runs, exit 0', async () => {
    const server = await RunningServer.start()
    try {
      const second = await runKymo(['start', '--data', server.data, '--http-port', '0', '--mqtt-port', '0'])
      assert.equal(second.code, 0, second.output)
      assert.match(second.output, /already running at/)
      assert.ok(second.output.includes(String(server.httpPort)), second.output)
    } finally {
      await server.dispose()
    }
  })
  it('a port in use: exit 4, with the port, the code and another one to use', async () => {
    const blocker = net.createServer()
    await new Promise<void>((resolve) => blocker.listen(0, '127.0.0.1', resolve))
    const { port } = blocker.address() as net.AddressInfo
    try {
      for (const option of ['--http-port', '--mqtt-port']) {
        const other = option === '--http-port' ? '--mqtt-port' : '--http-port'
        const ended = await runKymo(['start', '--data', path.join(data, option), option, String(port), other, '0'])
        assert.equal(ended.code, 4, ended.output)
        assert.match(ended.output, new RegExp(`port ${port} is in use`))
        assert.match(ended.output, /KYMO-E104/)
        assert.ok(ended.output.includes(`${option} ${port + 1}`), ended.output)
      }
    } finally {
      blocker.close()
    }
  })
  it('an address beyond loopback without credentials: exit 3', async () => {
    const ended = await runKymo(['start', '--data', path.join(data, 'open'), '--host', '0.0.0.0', '--http-port', '0', '--mqtt-port', '0'])
    assert.equal(ended.code, 3, ended.output)
    assert.match(ended.output, /KYMO-E105/)
    assert.match(ended.output, /tokens create/)
  })
  it('an unknown option: exit 2, with what was meant; an unknown variable: exit 3', async () => {
    const option = await runKymo(['start', '--data', path.join(data, 'x'), '--http-prt', '0'])
    assert.equal(option.code, 2, option.output)
    assert.match(option.output, /--http-port/)
    const variable = await runKymo(['start', '--data', path.join(data, 'x'), '--http-port', '0', '--mqtt-port', '0'], {
      env: { KYMO_HTPT_PORT: '1' },
    })
    assert.equal(variable.code, 3, variable.output)
    assert.match(variable.output, /KYMO_HTTP_PORT/)
  })
  it('a data directory that cannot be made: exit 5', async () => {
    const file = path.join(data, 'file')
    writeFileSync(file, '')
    const ended = await runKymo(['start', '--data', path.join(file, 'kymo'), '--http-port', '0', '--mqtt-port', '0'])
    assert.equal(ended.code, 5, ended.output)
    assert.ok(ended.output.includes(file), ended.output)
    if (process.platform !== 'linux') return
    const unmakeable = await runKymo(['start', '--data', '/proc/kymo/data', '--http-port', '0', '--mqtt-port', '0'])
    assert.equal(unmakeable.code, 5, unmakeable.output)
  })
})
