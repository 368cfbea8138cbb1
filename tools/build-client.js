// Builds what `import 'kymo/client'` gives to bundlers and to Node: node tools/build-client.js [folder]
//
// dist/client holds JavaScript and declarations, as src/client has them in TypeScript: neither browsers nor Node below node_modules take
// types. It is built beside its place and moved there when it differs, so that who imports it meanwhile sees all of it.
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import process from 'node:process'

const root = path.resolve(import.meta.dirname, '..')
const target = path.resolve(process.argv[2] ?? path.join(root, 'dist/client'))
const compiler = path.join(root, 'node_modules/typescript/bin/tsc')

if (!fs.existsSync(compiler)) {
  process.stdout.write('kymo/client is not built: TypeScript is not installed (npm ci without --omit=dev installs it)\n')
  process.exit(0)
}

fs.mkdirSync(path.dirname(target), { recursive: true })
const built = fs.mkdtempSync(`${target}-`)
try {
  const run = spawnSync(process.execPath, [compiler, '-p', path.join(root, 'src/client'), '--outDir', built], { stdio: 'inherit' })
  if (run.status !== 0) throw new Error(`tsc ended with ${run.status ?? run.signal}`)
  // Declarations name their neighbours by the files that are there.
  for (const name of fs.readdirSync(built).filter((file) => file.endsWith('.d.ts'))) {
    const file = path.join(built, name)
    fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replaceAll(/(from '\.\/[\w-]+)\.ts'/g, "$1.js'"))
  }
  if (textOf(built) !== textOf(target)) {
    fs.rmSync(target, { recursive: true, force: true })
    fs.renameSync(built, target)
  }
} finally {
  fs.rmSync(built, { recursive: true, force: true })
}

/** All files of a folder, as one text. */
function textOf(folder) {
  if (!fs.existsSync(folder)) return ''
  const names = fs.readdirSync(folder).toSorted()
  return names.map((name) => `${name}\n${fs.readFileSync(path.join(folder, name), 'utf8')}`).join('\n')
}
