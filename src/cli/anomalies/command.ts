import type { Command } from 'commander'
import { examples } from '../options.ts'
import type { Terminal } from '../terminal.ts'
import { declareScore } from './score.ts'

export function declare(command: Command, terminal: Terminal): void {
  declareScore(command.command('score'), terminal)
  examples(command, [['kymo anomalies score --nab NAB', 'how well the usual detector does on the Numenta Anomaly Benchmark']])
}
