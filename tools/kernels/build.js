// Builds src/compute/forecast/lstm/kernels.generated.ts from lstm.as: npm ci --prefix tools/kernels && node tools/kernels/build.js [--check]
//
// The compiler is a package of this folder alone, as what it makes is committed: nobody who uses Kymo installs it. --check fails where what is
// committed is not what lstm.as gives. lstm.as is no .ts file, for its types are not TypeScript's; the compiler wants that name, and sees a copy.
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'

const here = import.meta.dirname
const target = path.resolve(here, '../../src/compute/forecast/lstm/kernels.generated.ts')
const compiler = path.join(here, 'node_modules/assemblyscript/bin/asc.js')
const options = ['-O3', '--runtime', 'stub', '--importMemory', '--initialMemory', '1', '--maximumMemory', '256', '--enable', 'simd', '--noAssert']

if (!fs.existsSync(compiler)) {
  process.stderr.write('The compiler is not installed: npm ci --prefix tools/kernels\n')
  process.exit(1)
}
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-kernels-'))
try {
  fs.copyFileSync(path.join(here, 'lstm.as'), path.join(folder, 'lstm.ts'))
  const run = spawnSync(process.execPath, [compiler, 'lstm.ts', '--outFile', 'lstm.wasm', ...options], { cwd: folder, stdio: 'inherit' })
  if (run.status !== 0) throw new Error(`asc ended with ${run.status ?? run.signal}`)
  const bytes = fs.readFileSync(path.join(folder, 'lstm.wasm'))
  const text = `// Made by tools/kernels/build.js from tools/kernels/lstm.as: ${bytes.length.toLocaleString('en')} bytes of WebAssembly. Do not edit.
export const kernelsBase64 =
  '${bytes.toString('base64')}'
`
  if (!process.argv.includes('--check')) fs.writeFileSync(target, text)
  else if (!fs.existsSync(target) || fs.readFileSync(target, 'utf8') !== text) {
    process.stderr.write('kernels.generated.ts is not what lstm.as gives: node tools/kernels/build.js\n')
    process.exitCode = 1
  }
} finally {
  fs.rmSync(folder, { recursive: true, force: true })
}
