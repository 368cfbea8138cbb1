import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import test from 'node:test'
import { promisify } from 'node:util'
import zlib from 'node:zlib'
import { bundle } from './bundle.ts'

const run = promisify(execFile)
const root = path.resolve(import.meta.dirname, '../..')

const gzipped = (code: string): number => zlib.gzipSync(code, { level: 9 }).length

test('a bundler takes it for browsers: at most 6 kB, nothing of Node, and only what is used', async () => {
  // As a page loads it: a library in ES format keeps its line breaks.
  const whole = await bundle(`export * from 'kymo/client'`, 'iife')
  assert.ok(gzipped(whole) <= 6 * 1024, `${gzipped(whole)} bytes with gzip`)
  assert.doesNotMatch(whole, /\bnode:|\brequire\(|\bprocess\.|\bBuffer\b|\bimport\b/)
  const errors = await bundle(`export { KymoError } from 'kymo/client'`, 'iife')
  assert.ok(gzipped(errors) <= 600, `${gzipped(errors)} bytes with gzip`)
})

test('it type-checks with what browsers have, and nothing else', async () => {
  await run(process.execPath, ['node_modules/typescript/bin/tsc', '--noEmit', '-p', 'src/client'], { cwd: root, timeout: 60_000 })
})

test('installed from npm it runs in Node below node_modules, and types come along', async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'kymo-package-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const installed = path.join(folder, 'node_modules/kymo')
  mkdirSync(installed, { recursive: true })
  cpSync(path.join(root, 'package.json'), path.join(installed, 'package.json'))
  await run(process.execPath, ['tools/build-client.js', path.join(installed, 'dist/client')], { cwd: root, timeout: 60_000 })
  for (const name of readdirSync(path.join(installed, 'dist/client'))) {
    assert.doesNotMatch(readFileSync(path.join(installed, 'dist/client', name), 'utf8'), /from '[^']*\.ts'/, name)
  }
  const use = `
    import { createClient, KymoError } from 'kymo/client'
    import type { Device } from 'kymo/client'
    const client = createClient({ url: 'http://127.0.0.1:9', retries: 0 })
    const device: Promise<Device> = client.devices.get({ id: 'a' })
    device.catch((error: unknown) => console.log(error instanceof KymoError && error.code))
  `
  writeFileSync(path.join(folder, 'package.json'), '{"type":"module"}')
  writeFileSync(path.join(folder, 'use.ts'), use)
  const ran = await run(process.execPath, ['use.ts'], { cwd: folder, timeout: 30_000 })
  assert.equal(ran.stdout.trim(), 'server_unreachable')
  const compiler = path.join(root, 'node_modules/typescript/bin/tsc')
  const options = ['--noEmit', '--strict', '--types', '', '--lib', 'es2022,dom', '--target', 'es2022']
  for (const resolution of [
    ['--module', 'nodenext'],
    ['--module', 'esnext', '--moduleResolution', 'bundler'],
  ]) {
    await run(process.execPath, [compiler, ...options, ...resolution, 'use.ts'], { cwd: folder, timeout: 60_000 })
  }
  writeFileSync(path.join(folder, 'wrong.ts'), `${use}\nvoid client.devices.get({ name: 'a' })\n`)
  await assert.rejects(run(process.execPath, [compiler, ...options, '--module', 'nodenext', 'wrong.ts'], { cwd: folder, timeout: 60_000 }), (error) =>
    /'name' does not exist/.test((error as { stdout?: string }).stdout ?? ''),
  )
})
