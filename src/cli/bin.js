#!/usr/bin/env node
// Plain JavaScript that any Node can parse: it must run where the rest cannot, to say so clearly.
import fs from 'node:fs'
import module from 'node:module'
import process from 'node:process'

const [major = 0] = process.versions.node.split('.').map(Number)
if (major < 24) {
  // The text of errorTable.node_too_old: this file cannot import TypeScript here. A test holds the two together.
  const text = 'Kymo needs Node 24 or newer. Start it through npm (npm start, npm run kymo), which brings Node 24 along.'
  fs.writeSync(2, `error: ${text}  [KYMO-E101]\n  This is Node ${process.versions.node}. From a checkout: npm start, or npm run kymo -- <command>\n`)
  process.exit(3)
}

// node:sqlite announces itself as experimental on every run; anything else is worth reading.
process.removeAllListeners('warning')
process.on('warning', (warning) => {
  if (warning.name !== 'ExperimentalWarning') fs.writeSync(2, `warning: ${warning.stack ?? warning.message}\n`)
})

if (typeof module.enableCompileCache === 'function') module.enableCompileCache()

const { main } = await import('./main.ts')
process.exitCode = await main(process.argv.slice(2))
