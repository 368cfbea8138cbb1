import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { it } from 'node:test'

interface Lock {
  readonly packages: Readonly<
    Record<string, { readonly version?: string; readonly resolved?: string; readonly optionalDependencies?: Readonly<Record<string, string>> }>
  >
}

const root = path.resolve(import.meta.dirname, '../..')
const lock = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')) as Lock

it('package-lock.json names the packages of every platform: npm ci refuses it otherwise (node tools/complete-lock.js)', () => {
  const missing = Object.values(lock.packages).flatMap((entry) =>
    Object.keys(entry.optionalDependencies ?? {}).filter((name) => lock.packages[`node_modules/${name}`] === undefined),
  )
  assert.deepEqual(missing, [])
})

it('package-lock.json holds no download addresses', () => {
  assert.deepEqual(
    Object.entries(lock.packages).filter(([, entry]) => entry.resolved?.startsWith('http') === true),
    [],
  )
})
