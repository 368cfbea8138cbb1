import process from 'node:process'
import { Command, CommanderError } from 'commander'
import { asKymoError, KymoError } from '../core/errors.ts'
import type { CommandEntry } from './command.ts'
import { commandTable } from './command.ts'
import { Exit, exitCodeOf } from './exit.ts'
import { printFailure } from './failure.ts'
import type { Terminal } from './terminal.ts'
import { processTerminal } from './terminal.ts'
import { version } from './version.ts'

const firstSteps = `
First steps:
  $ kymo start --demo
      run it, with ten simulated devices, in ./kymo-data
  $ curl 127.0.0.1:8080/ingest -H 'content-type: application/json' -d '{"device_id":"dev-1","temperature_c":25.5,"humidity":60}'
      send a reading of your own
  $ kymo tail
      watch readings arrive
  $ kymo load --devices 100 --rps 5 --duration 30s --assert 'lost==0,p99<250ms'
      put a load on it, and fail (exit 99) when it does not hold

kymo <command> --help tells the options and examples of one command.
Exit codes: 0 done · 1 refused by the server · 2 usage · 3 configuration · 4 port · 5 storage · 6 a dependency · 99 a failed assertion`

/** Runs one command line (without node and script) and gives the exit code. */
export async function main(argv: readonly string[], terminal: Terminal = processTerminal()): Promise<number> {
  const args = argv[0] === 'help' && argv[1] !== undefined ? helpOf(argv.slice(1)) : [...argv]
  if (args.length === 0) args.push('--help')
  const named = args.find((arg) => !arg.startsWith('-'))
  let program: Command | undefined
  try {
    program = await createProgram((entry) => entry.name === named, terminal)
    await program.parseAsync(args, { from: 'user' })
    return typeof process.exitCode === 'number' ? process.exitCode : Exit.ok
  } catch (thrown) {
    if (thrown instanceof CommanderError && thrown.exitCode === 0) return Exit.ok
    const error = thrown instanceof CommanderError ? usageError(thrown, commandOf(program, args)) : asKymoError(thrown)
    printFailure(terminal, error, args.includes('--json'))
    return exitCodeOf(error)
  }
}

/** `kymo help start` is `kymo start --help`; `kymo help KYMO-E104` explains the error. */
function helpOf(asked: readonly string[]): string[] {
  return /^KYMO-E\d+$/i.test(asked[0] ?? '') ? ['explain', ...asked] : [...asked, '--help']
}

/** The program with the options of the commands that `wanted` picks; the others are known by name and summary only. */
export async function createProgram(wanted: (entry: CommandEntry) => boolean, terminal: Terminal): Promise<Command> {
  const program = configure(new Command('kymo'))
  program
    .description('Kymo records what devices say, makes it queryable at once, and watches it.')
    .usage('<command> [options]')
    .version(version(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show help')
    .helpCommand('help [command]', 'show the help of a command')
    .addHelpText('after', firstSteps)
  for (const entry of commandTable) {
    program.commandsGroup(entry.group + ':')
    const command = configure(program.command(entry.name)).description(entry.summary).helpOption('-h, --help', 'show help')
    if (wanted(entry)) (await entry.load()).declare(command, terminal)
  }
  return program
}

function configure(command: Command): Command {
  return command
    .exitOverride()
    .showSuggestionAfterError(true)
    .configureOutput({ outputError: () => undefined })
    .configureHelp({ helpWidth: 110, showGlobalOptions: false })
}

/** `kymo dlq list` of what was given: as far as its words name commands. */
function commandOf(program: Command | undefined, args: readonly string[]): string {
  const names = ['kymo']
  let command = program
  for (const arg of args) {
    command = command?.commands.find((one) => one.name() === arg)
    if (command === undefined) break
    names.push(arg)
  }
  return names.join(' ')
}

/** commander's own message, without its prefix; the suggestion stays. */
function usageError(error: CommanderError, command: string): KymoError {
  const [first = '', ...rest] = error.message.replace(/^error: /, '').split('\n')
  const hint = rest.map((line) => line.replace(/^\((.*)\)$/, '$1')).join(' ')
  return new KymoError('usage', {
    detail: hint === '' ? first : `${first.replace(/[.\s]+$/, '')}. ${hint}`,
    facts: { command },
  })
}
