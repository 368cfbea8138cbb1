/** One command line as a job of the server, which starts it: it ends with the server, however that ends. */
import process from 'node:process'
import { main } from './main.ts'

process.removeAllListeners('warning')
process.on('disconnect', () => process.exit(1))
process.channel?.unref()
const code = await main(process.argv.slice(2))
process.exit(code)
