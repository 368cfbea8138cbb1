// npm start: the page is built where it is absent or older than its sources (2 ms to see that it is not), then `kymo start`. One process,
// so that signals reach it; no script of npm's that ignore-scripts leaves out.
import process from 'node:process'
import { ensurePage } from './build-page.js'

try {
  await ensurePage()
} catch (error) {
  process.stderr.write(`warning: the page could not be built: ${error instanceof Error ? error.message : String(error)}\n`)
}
process.argv.splice(2, 0, 'start')
await import('../src/cli/bin.js')
