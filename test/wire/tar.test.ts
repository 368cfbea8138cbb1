import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, describe, it } from 'node:test'
import { KymoError } from '../../src/core/errors.ts'
import { readTar } from '../../src/wire/tar/read.ts'
import { padding, tarEnd, tarHeader } from '../../src/wire/tar/write.ts'

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-tar-'))
after(() => fs.rmSync(dir, { recursive: true, force: true }))

const names = [
  'a',
  'log/telemetry/0/00000000000000000000.seg',
  `store/${'x'.repeat(94)}`,
  `store/${'y'.repeat(95)}`,
  `long/${'z'.repeat(200)}/${'w'.repeat(200)}`,
  'größe/温度.duckdb',
]
const sizes = [0, 1, 511, 512, 513, 20_000]
const contents = new Map(names.map((name, i) => [name, Buffer.alloc(sizes[i]!, `${name}|`)]))
const GiB = 2 ** 30

function archive(): Buffer {
  const parts = [...contents].flatMap(([name, body]) => [
    tarHeader({ path: name, bytes: body.length, mtime: 1_795_000_000 }),
    body,
    padding(body.length),
  ])
  return Buffer.concat([...parts, tarEnd()])
}

/** In chunks of so many bytes. */
async function* chunks(bytes: Buffer, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield await Promise.resolve(bytes.subarray(at, at + size))
}

async function read(bytes: Buffer, size = 65_536): Promise<Map<string, Buffer>> {
  const found = new Map<string, Buffer>()
  for await (const file of readTar(chunks(bytes, size))) {
    const parts: Uint8Array[] = []
    for await (const part of file.body) parts.push(part)
    const body = Buffer.concat(parts)
    assert.equal(body.length, file.bytes)
    found.set(file.path, body)
  }
  return found
}

const damaged = (thrown: unknown): boolean => thrown instanceof KymoError && thrown.code === 'backup_damaged'

describe('tar', () => {
  it('the system reads what we write', () => {
    const file = path.join(dir, 'ours.tar')
    fs.writeFileSync(file, archive())
    const into = path.join(dir, 'ours')
    fs.mkdirSync(into)
    execFileSync('tar', ['-xf', file, '-C', into])
    for (const [name, body] of contents) assert.deepEqual(fs.readFileSync(path.join(into, name)), body, name)
    assert.equal(fs.statSync(path.join(into, 'a')).mtimeMs, 1_795_000_000_000)
    assert.equal(fs.globSync('**/*', { cwd: into }).filter((name) => fs.statSync(path.join(into, name)).isFile()).length, contents.size)
  })

  it('we read what the system writes, in each of its formats and however it arrives', async () => {
    const from = path.join(dir, 'theirs')
    for (const [name, body] of contents) {
      fs.mkdirSync(path.dirname(path.join(from, name)), { recursive: true })
      fs.writeFileSync(path.join(from, name), body)
    }
    for (const format of ['pax', 'gnu', 'posix']) {
      const bytes = execFileSync('tar', [`--format=${format}`, '-cf', '-', '-C', from, ...names], { maxBuffer: 10e6 })
      for (const size of [1, 7, 512, 10_240, 1e6]) assert.deepEqual(await read(bytes, size), contents, `${format}, chunks of ${size}`)
    }
    // Folders are passed over.
    const whole = execFileSync('tar', ['-cf', '-', '-C', from, '.'], { maxBuffer: 10e6 })
    assert.deepEqual(new Set((await read(whole)).keys()), new Set(names.map((name) => `./${name}`)))
  })

  it('a size beyond 8 GiB stands in a pax header, as the system reads it; the system’s own way is read as well', async () => {
    const file = path.join(dir, 'large.tar')
    const header = Buffer.from(tarHeader({ path: 'large', bytes: 9 * GiB, mtime: 1 }))
    fs.writeFileSync(file, header)
    fs.truncateSync(file, header.length + 9 * GiB) // a hole
    fs.appendFileSync(file, Buffer.concat([tarHeader({ path: 'behind', bytes: 3, mtime: 1 }), Buffer.from('end'), padding(3), tarEnd()]))
    const listed = execFileSync('tar', ['-tvf', file]).toString()
    assert.match(listed, / 9663676416 .* large\n.* 3 .* behind\n/)
    fs.rmSync(file)
    for await (const one of readTar(chunks(header, 100))) {
      assert.deepEqual([one.path, one.bytes], ['large', 9 * GiB])
      break
    }
    const sparse = path.join(dir, 'sparse')
    fs.writeFileSync(sparse, '')
    fs.truncateSync(sparse, 9 * GiB)
    const theirs = execFileSync('sh', ['-c', `tar --format=gnu -cf - -C ${dir} sparse 2>/dev/null | head -c 512`])
    for await (const one of readTar(chunks(theirs, 512))) {
      assert.deepEqual([one.path, one.bytes], ['sparse', 9 * GiB])
      break
    }
    fs.rmSync(sparse)
  })

  it('what is not read of a file is skipped', async () => {
    const seen: string[] = []
    for await (const file of readTar(chunks(archive(), 1000))) seen.push(file.path)
    assert.deepEqual(seen, names)
  })

  it('an archive that ends early, is damaged or is none is refused; so are links and devices', async () => {
    const whole = archive()
    for (let cut = 0; cut < whole.length - 1024; cut += 509) await assert.rejects(read(whole.subarray(0, cut)), damaged, `${cut}`)
    for (const at of [0, 100, 124, 148, 156, 257]) {
      const bytes = Buffer.from(whole)
      bytes[at]! ^= 1
      await assert.rejects(read(bytes), damaged, `${at}`)
    }
    await assert.rejects(read(Buffer.alloc(2048, 'no archive')), damaged)
    fs.symlinkSync('/etc/passwd', path.join(dir, 'link'))
    await assert.rejects(read(execFileSync('tar', ['-cf', '-', '-C', dir, 'link'])), damaged)
    const long = Buffer.from(tarHeader({ path: 'x'.repeat(100_000), bytes: 0, mtime: 1 }))
    await assert.rejects(read(Buffer.concat([long, tarEnd()])), damaged, 'a header without end')
  })
})
