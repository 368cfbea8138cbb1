import { createHash } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import path from 'node:path'
import { limits } from '../../../core/limits.ts'

/** A file in the encodings that the build made of it. */
export interface PageFile {
  readonly type: string
  readonly etag: string
  readonly bodies: Readonly<Partial<Record<Encoding, Buffer>>> & { readonly identity: Buffer }
}
export type Encoding = 'br' | 'gzip' | 'identity'

export interface BuiltPage {
  readonly index: PageFile
  /** By their names, which carry a hash of what is in them. */
  readonly assets: ReadonlyMap<string, PageFile>
}

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml; charset=utf-8',
}

/** Where `npm run build:page` leaves the page, seen from this file. */
export const pageFolder = path.resolve(import.meta.dirname, '../../../../dist/page')

/**
 * The built page, held in memory: only names that the build has made can be asked for. Looks at the folder again when its index.html has
 * changed. Gives undefined where nothing is built; rejects with what the file system says otherwise.
 */
export function builtPage(folder: string): () => Promise<BuiltPage | undefined> {
  let loaded: { readonly mtimeMs: number; readonly page: Promise<BuiltPage> } | undefined
  return async () => {
    const mtimeMs = await modified(path.join(folder, 'index.html'))
    if (mtimeMs === undefined) return undefined
    if (loaded?.mtimeMs === mtimeMs) return loaded.page
    const page = load(folder)
    loaded = { mtimeMs, page }
    // A build may be replacing the folder at this moment: the next request looks again.
    page.catch(() => (loaded = undefined))
    return page
  }
}

async function modified(file: string): Promise<number | undefined> {
  try {
    return (await stat(file)).mtimeMs
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}

async function load(folder: string): Promise<BuiltPage> {
  let bytes = 0
  const read = async (file: string): Promise<Buffer> => {
    const body = await readFile(file)
    bytes += body.length
    if (bytes > limits.pageBytesMax)
      throw new Error(`${folder} has more than ${limits.pageBytesMax} bytes: it is not the page that npm run build:page makes`)
    return body
  }
  const fileOf = async (file: string, names: ReadonlySet<string>): Promise<PageFile> => {
    const name = path.basename(file)
    const identity = await read(file)
    return {
      type: types[path.extname(name)] ?? 'application/octet-stream',
      etag: createHash('sha256').update(identity).digest('base64url').slice(0, 22),
      bodies: {
        identity,
        ...(names.has(`${name}.br`) ? { br: await read(`${file}.br`) } : {}),
        ...(names.has(`${name}.gz`) ? { gzip: await read(`${file}.gz`) } : {}),
      },
    }
  }
  const assetFolder = path.join(folder, 'page')
  const names = new Set(await readdir(assetFolder))
  const assets = new Map<string, PageFile>()
  for (const name of names) if (types[path.extname(name)] !== undefined) assets.set(name, await fileOf(path.join(assetFolder, name), names))
  return { index: await fileOf(path.join(folder, 'index.html'), new Set(await readdir(folder))), assets }
}

/** The smallest encoding that the client takes (RFC 9110, 12.5.3); one with the weight 0 is refused by it. */
export function encodingOf(file: PageFile, acceptEncoding: string | undefined): Encoding {
  const taken = new Map(
    (acceptEncoding ?? '').split(',').map((part) => {
      const [name = '', ...parameters] = part.trim().toLowerCase().split(';')
      const weight = /^\s*q=([\d.]+)/.exec(parameters.find((p) => p.trim().startsWith('q=')) ?? '')
      return [name.trim(), weight === null ? 1 : Number(weight[1])] as const
    }),
  )
  for (const encoding of ['br', 'gzip'] as const) {
    if (file.bodies[encoding] !== undefined && (taken.get(encoding) ?? taken.get('*') ?? 0) > 0) return encoding
  }
  return 'identity'
}
