import type { Command } from 'commander'
import { examples } from '../options.ts'
import type { Terminal } from '../terminal.ts'
import { declareScore } from './score.ts'

export function declare(command: Command, terminal: Terminal): void {
  declareScore(command.command('score'), terminal)
  examples(command, [['kymo models score --data ETTh1.csv.gz --convention ett', 'how well each kind of model does on past readings']])
}
