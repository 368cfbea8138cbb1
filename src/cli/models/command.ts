import type { Command } from 'commander'
import { examples } from '../options.ts'
import type { Terminal } from '../terminal.ts'
import { declareCancel, declareJobs, declareList, declarePromote, declareShow } from './list.ts'
import { declareScore } from './score.ts'
import { declareBacktest, declareTrain } from './train.ts'

export function declare(command: Command, terminal: Terminal): void {
  declareTrain(command.command('train'), terminal)
  declareList(command.command('list'), terminal)
  declareShow(command.command('show'), terminal)
  declarePromote(command.command('promote'), terminal)
  declareBacktest(command.command('backtest'), terminal)
  declareJobs(command.command('jobs'), terminal)
  declareCancel(command.command('cancel'), terminal)
  declareScore(command.command('score'), terminal)
  examples(command, [
    ['kymo models train dev-1 temperature', 'train the best kind for a series'],
    ['kymo models list', 'what serves each series, how well, and whether it drifts'],
    ['kymo models score --data ETTh1.csv.gz --convention ett', 'how well each kind of model does on past readings; needs no server'],
  ])
}
