import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { build } from 'vite'

/** What a bundler makes of `source` for browsers, minified; `kymo/client` is the one of src/. `iife` puts its exports into `kymo`. */
export async function bundle(source: string, format: 'es' | 'iife' = 'es'): Promise<string> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'kymo-bundle-'))
  const entry = path.join(folder, 'entry.ts')
  writeFileSync(entry, source)
  try {
    const built = await build({
      root: folder,
      configFile: false,
      logLevel: 'error',
      resolve: { alias: { 'kymo/client': path.resolve(import.meta.dirname, '../../src/client/index.ts') } },
      build: { write: false, target: 'es2022', minify: 'oxc', lib: { entry, name: 'kymo', formats: [format], fileName: 'kymo' } },
    })
    const [first] = [built].flat()
    if (first === undefined || !('output' in first)) throw new Error('nothing was built')
    return first.output[0].code
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
