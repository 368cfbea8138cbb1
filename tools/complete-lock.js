// Completes package-lock.json after npm install: node tools/complete-lock.js
//
// A package that ships native code lists one optional package per platform. npm leaves out of the lock file those that the registry
// in use does not have (a mirror may carry one platform only), and npm ci then refuses the lock file on every machine. This writes
// them in, with the exact version that their parent asks for and the platform that their name says; npm installs only the one that fits.
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'

const file = path.resolve(process.argv[2] ?? 'package-lock.json')
const lock = JSON.parse(readFileSync(file, 'utf8'))
const systems = ['aix', 'android', 'darwin', 'freebsd', 'linux', 'netbsd', 'openbsd', 'openharmony', 'sunos', 'win32']
const processors = ['arm64', 'arm', 'ia32', 'loong64', 'mips64el', 'ppc64', 'riscv64', 's390x', 'x64']

let added = 0
for (const entry of Object.values({ ...lock.packages })) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const key = `node_modules/${name}`
    if (lock.packages[key] !== undefined) continue
    const words = name.split(/[-/]/)
    const os = systems.find((system) => words.includes(system))
    if (os === undefined && !words.includes('wasm32')) {
      process.stderr.write(`error: ${name} names no platform; left out\n`)
      process.exitCode = 1
      continue
    }
    const cpu = processors.find((processor) => words.includes(processor)) ?? (words.includes('wasm32') ? 'wasm32' : undefined)
    const libc =
      words.includes('musl') || words.includes('musleabihf') ? 'musl' : words.includes('gnu') || words.includes('gnueabihf') ? 'glibc' : undefined
    lock.packages[key] = {
      version,
      ...(cpu === undefined ? {} : { cpu: [cpu] }),
      ...(entry.dev === true ? { dev: true } : {}),
      ...(libc === undefined ? {} : { libc: [libc] }),
      optional: true,
      ...(os === undefined ? {} : { os: [os] }),
    }
    added++
  }
}
const sorted = Object.keys(lock.packages).toSorted((a, b) => (a < b ? -1 : 1))
lock.packages = Object.fromEntries(sorted.map((key) => [key, lock.packages[key]]))
writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`)
process.stdout.write(`${added} platform packages added to ${path.basename(file)}\n`)
