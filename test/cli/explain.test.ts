import assert from 'node:assert/strict'
import process from 'node:process'
import { test } from 'node:test'
import { Exit } from '../../src/cli/exit.ts'
import { main } from '../../src/cli/main.ts'
import { errorGuide } from '../../src/cli/reference/error-guide.ts'
import { errorCodes, errorPage, findCode } from '../../src/cli/reference/error-page.ts'
import { errorTable } from '../../src/core/errors.ts'
import { recordedTerminal } from './fixtures/terminal.ts'

async function kymo(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const terminal = recordedTerminal()
  process.exitCode = undefined
  const code = await main(args, terminal)
  process.exitCode = undefined
  return { code, stdout: terminal.stdout.join('\n'), stderr: terminal.stderr.join('\n') }
}

test('every error has an id of its own, a cause, and something to do', () => {
  const ids = new Set(Object.values(errorTable).map(({ id }) => id))
  assert.equal(ids.size, errorCodes().length)
  for (const code of errorCodes()) {
    const guide = errorGuide[code]
    assert.ok(guide !== undefined, `${code} has no entry in src/cli/reference/error-guide.ts`)
    assert.match(guide.cause, /^[A-Z‘“`].{10,}[.]$/, code)
    assert.match(guide.fix, /^[A-Z‘“`].{10,}[.]$/, code)
    assert.match(errorPage(code), new RegExp(`^# ${errorTable[code].id} ${code}\n`))
  }
})

test('explain and help print the page, by id or code, in any case; an unknown one comes with a suggestion', async () => {
  const page = errorPage('data_dir_unusable').trimEnd()
  for (const asked of ['KYMO-E214', 'kymo-e214', 'E214', '214', 'data_dir_unusable']) assert.equal((await kymo('explain', asked)).stdout, page)
  assert.equal((await kymo('help', 'KYMO-E214')).stdout, page)
  const json = JSON.parse((await kymo('explain', 'KYMO-E104', '--json')).stdout) as Record<string, unknown>
  assert.equal(json['code'], 'port_in_use')
  assert.equal(json['exit_code'], Exit.port)
  assert.equal(json['http_status'], 409)
  const unknown = await kymo('explain', 'port_inuse')
  assert.equal(unknown.code, Exit.usage)
  assert.match(unknown.stderr, /there is no error port_inuse; did you mean port_in_use\?/)
  assert.equal((await kymo('explain')).stdout.split('\n').length, errorCodes().length)
  assert.equal(findCode('KYMO-E999'), undefined)
})
