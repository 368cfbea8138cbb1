import type { DuckDBConnection } from '@duckdb/node-api'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { fileOf, kinds, quoted } from './format.ts'
import { makeFolder, syncFolder } from './manifest-file.ts'
import type { RunFile } from './manifest.ts'
import type { Partition } from './partition.ts'
import type { Written } from './raw-writer.ts'

/** Told after each step that changed the disk; a test ends the process there. */
export type Step = (name: string) => void

interface Target {
  /** The store's folder. */
  readonly dir: string
  /** Path of the file from there. */
  readonly name: string
  readonly blockBytes: number
  /** Of the steps. */
  readonly label: string
  readonly step: Step
}

/**
 * Makes a file that is there whole or not at all: filled as `<name>.tmp` (attached as `out`), checkpointed, synced, renamed, its folder synced.
 * When `fill` gives undefined there is nothing to keep, and no file is made.
 */
export async function publish(c: DuckDBConnection, target: Target, fill: () => Promise<Written | undefined>): Promise<RunFile | undefined> {
  const file = path.join(target.dir, target.name)
  const temporary = `${file}.tmp`
  makeFolder(path.dirname(file))
  await c.run(`ATTACH ${quoted(temporary)} AS out (BLOCK_SIZE ${target.blockBytes})`)
  const written = await fill()
  target.step(`${target.label}:filled`)
  if (written !== undefined) await c.run('CHECKPOINT out')
  await c.run('DETACH out')
  target.step(`${target.label}:checkpointed`)
  if (written === undefined) {
    for (const end of ['', '.wal']) fs.rmSync(temporary + end, { force: true })
    return undefined
  }
  const { bytes, sha256 } = await syncAndHash(temporary)
  target.step(`${target.label}:synced`)
  fs.renameSync(temporary, file)
  target.step(`${target.label}:renamed`)
  syncFolder(path.dirname(file))
  target.step(`${target.label}:durable`)
  return { bytes, sha256, ...written }
}

export function syncFile(file: string): void {
  const fd = fs.openSync(file, 'r+')
  try {
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
}

async function syncAndHash(file: string): Promise<{ bytes: number; sha256: string }> {
  syncFile(file)
  const hash = createHash('sha256')
  let bytes = 0
  for await (const chunk of fs.createReadStream(file, { highWaterMark: 1 << 20 })) {
    if (!Buffer.isBuffer(chunk)) continue
    hash.update(chunk)
    bytes += chunk.length
  }
  return { bytes, sha256: hash.digest('hex') }
}

/** Removes what an attempt of this generation left: it did not reach the manifest, or it would not be made again. */
export function removeLeftovers(dir: string, partition: Partition, generation: number): void {
  for (const kind of kinds)
    for (const end of ['', '.wal', '.tmp', '.tmp.wal']) fs.rmSync(path.join(dir, fileOf(partition, generation, kind)) + end, { force: true })
}
