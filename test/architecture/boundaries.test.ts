import assert from 'node:assert/strict'
import path from 'node:path'
import { describe, it } from 'node:test'
import { check, readTree, type Finding } from '../../tools/boundaries.ts'
import { importsOf } from '../../tools/imports.ts'
import { rows } from '../../tools/rooms.ts'

const root = path.resolve(import.meta.dirname, '../..')

function failures(tree: Readonly<Record<string, string>>): string[] {
  return check(new Map(Object.entries(tree)))
    .filter((finding) => finding.warning !== true)
    .map((finding) => `${finding.file} ${finding.rule}`)
}

describe('the rooms of this tree', () => {
  const tree = readTree(root)
  const findings = check(tree)
  const say = (list: readonly Finding[]): string => list.map((f) => `${f.file}:${f.line} ${f.text}`).join('\n')

  it('has sources to look at', () => {
    assert.ok([...tree.keys()].filter((file) => file.startsWith('src/')).length > 10)
    for (const file of tree.keys()) {
      const room = /^src\/([^/]+)\//.exec(file)?.[1]
      if (room !== undefined) assert.ok(rows.flat().includes(room), `src/${room} is in the table of rooms`)
    }
  })
  for (const rule of ['room', 'folder', 'role', 'driver', 'pure', 'dynamic', 'missing', 'cycle', 'size', 'word'] as const) {
    it(`breaks no rule of kind ${rule}`, () => {
      const broken = findings.filter((finding) => finding.rule === rule && finding.warning !== true)
      assert.equal(say(broken), '')
    })
  }
})

describe('what the check would find', () => {
  const core = { 'src/core/a.ts': 'export const a = 1\n' }

  it('imports against the table, whatever their form', () => {
    const forms = [
      `import { a } from '../store/b.ts'`,
      `import type { A } from '../store/b.ts'`,
      `import {\n  a,\n  type B,\n} from '../store/b.ts'`,
      `import * as b from "../store/b.ts"`,
      `export * from '../store/b.ts'`,
      `export { a } from '../store/b.ts'`,
      `import '../store/b.ts'`,
      `const b = await import('../store/b.ts')`,
      `type A = import('../store/b.ts').A`,
      `const w = new Worker(new URL('../store/b.ts', import.meta.url))`,
    ]
    for (const form of forms) {
      const tree = { 'src/wire/x.ts': `${form}\n`, 'src/store/b.ts': '' }
      assert.deepEqual(failures(tree), ['src/wire/x.ts room'], form)
    }
  })
  it('rooms in one row, and rooms that nobody declared', () => {
    assert.deepEqual(failures({ 'src/log/x.ts': `import '../store/b.ts'\n`, 'src/store/b.ts': '' }), ['src/log/x.ts room'])
    assert.deepEqual(failures({ 'src/shed/x.ts': `import '../core/a.ts'\n`, ...core }), ['src/shed/x.ts room'])
    assert.deepEqual(failures({ 'src/log/x.ts': `import '../../bench/b.ts'\n`, 'bench/b.ts': '' }), ['src/log/x.ts room'])
  })
  it('lets through what the table allows, and what only looks like an import', () => {
    const ok = {
      ...core,
      'src/store/duckdb/x.ts': `import { a } from '../../core/a.ts'\nimport d from '@duckdb/node-api'\n// import '../../cli/c.ts'\n/* import('../../cli/c.ts') */\n`,
      'src/cli/c.ts': `import '../store/duckdb/x.ts'\nconst text = "import x from '../nowhere.ts'"\n`,
    }
    assert.deepEqual(failures(ok), [])
  })
  it('neighbours behind a wall', () => {
    assert.deepEqual(failures({ 'src/doors/mqtt/x.ts': `import '../http/y.ts'\n`, 'src/doors/http/y.ts': '' }), ['src/doors/mqtt/x.ts folder'])
    assert.deepEqual(failures({ 'src/compute/rules/x.ts': `import '../window/y.ts'\n`, 'src/compute/window/y.ts': '' }), [])
    assert.deepEqual(failures({ 'src/compute/rules/x.ts': `import '../forecast/y.ts'\n`, 'src/compute/forecast/y.ts': '' }), [
      'src/compute/rules/x.ts folder',
    ])
  })
  it('roles that call each other', () => {
    const roles = { 'src/roles/ingest.ts': '', 'src/roles/api.ts': `import './ingest.ts'\n`, 'src/roles/server.ts': `import './ingest.ts'\n` }
    assert.deepEqual(failures(roles), ['src/roles/api.ts role'])
    assert.deepEqual(
      failures({
        'src/roles/ingest.ts': `import './ingest-metrics.ts'\nimport './origins.ts'\n`,
        'src/roles/ingest-metrics.ts': '',
        'src/roles/origins.ts': '',
      }),
      [],
    )
  })
  it('what a browser cannot run', () => {
    const page = {
      ...core,
      'src/client/index.ts': '',
      'src/client/x.ts': `import '../core/a.ts'\n`,
      'src/page/main.tsx': `import '../client/index.ts'\nimport { useState } from 'react'\nimport './app.tsx'\n`,
      'src/page/app.tsx': `import '../core/a.ts'\n`,
      'src/page/disk.tsx': `import fs from 'node:fs'\n`,
      'src/cli/x.ts': `import uPlot from 'uplot'\nimport '../page/app.tsx'\n`,
    }
    assert.deepEqual(failures(page), [
      'src/client/x.ts room',
      'src/page/app.tsx room',
      'src/page/disk.tsx pure',
      'src/cli/x.ts driver',
      'src/cli/x.ts room',
    ])
  })
  it('drivers outside their adapter', () => {
    assert.deepEqual(failures({ 'src/roles/x.ts': `const d = await import('@duckdb/node-api')\n` }), ['src/roles/x.ts driver'])
    assert.deepEqual(failures({ 'src/devices/x.ts': `import { DatabaseSync } from 'node:sqlite'\n` }), ['src/devices/x.ts driver'])
  })
  it('the clock, chance and the disk in pure rooms', () => {
    assert.deepEqual(failures({ 'src/compute/window/x.ts': 'export const t = Date.now()\n' }), ['src/compute/window/x.ts pure'])
    assert.deepEqual(failures({ 'src/wire/x.ts': `import fs from 'node:fs'\n` }), ['src/wire/x.ts pure'])
    assert.deepEqual(failures({ 'src/client/x.ts': `import { Buffer } from 'node:buffer'\n` }), ['src/client/x.ts pure'])
  })
  it('cycles, computed imports and files that are not there', () => {
    assert.deepEqual(
      failures({ 'src/core/a.ts': `import './b.ts'\n`, 'src/core/b.ts': `import type { A } from './c.ts'\n`, 'src/core/c.ts': `import './a.ts'\n` }),
      ['src/core/a.ts cycle'],
    )
    assert.deepEqual(failures({ 'src/core/a.ts': 'const x = await import(name)\n' }), ['src/core/a.ts dynamic'])
    assert.deepEqual(failures({ 'src/core/a.ts': `import './gone.ts'\n` }), ['src/core/a.ts missing'])
  })
  it('long files', () => {
    assert.deepEqual(failures({ 'src/core/a.ts': 'x\n'.repeat(501) }), ['src/core/a.ts size'])
    assert.deepEqual(failures({ 'src/core/a.ts': 'x\n'.repeat(500) }), [])
    assert.equal(check(new Map([['src/core/a.ts', 'x\n'.repeat(401)]]))[0]?.warning, true)
  })
  it('words of unfinished work, switched-off tests, swallowed errors and given-up types', () => {
    const lines = [
      ['TO', 'DO later'],
      ['a place', 'holder'],
      ['it.', "skip('x')"],
      ['catch (e) ', '{ }'],
      ['x as ', 'any'],
      ['f(a: ', 'any)'],
      ['// @ts-', 'ignore'],
      ['/wo', 'rk/main'],
    ]
    for (const [a, b] of lines) {
      const line = `${a}${b}\n`
      assert.deepEqual(failures({ 'test/x.ts': line }), ['test/x.ts word'], line)
    }
    assert.deepEqual(failures({ 'test/x.ts': `const text = 'auto: any of them' // the rest: any\n` }), [])
  })
})

it('importsOf tells the line and whether the import is erased', () => {
  const source = `/* a\n b */\nimport type { A } from './a.ts'\n\nimport { b } from 'b'\n`
  assert.deepEqual(importsOf(source), [
    { specifier: './a.ts', line: 3, typeOnly: true },
    { specifier: 'b', line: 5, typeOnly: false },
  ])
})
