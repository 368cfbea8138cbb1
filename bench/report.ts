import { writeFileSync } from 'node:fs'
import path from 'node:path'
import type { Machine } from './machine.ts'

/** One measured figure. `aim` is what was set out to reach, in the same unit; smaller is better. */
export interface Figure {
  readonly stage: string
  readonly what: string
  readonly value: number
  readonly unit: string
  readonly aim?: number
  /** How it was measured, as far as the stage's text does not say it. */
  readonly note?: string
}

function number(value: number): string {
  if (!Number.isFinite(value)) return '–'
  return value >= 1000 ? Math.round(value).toLocaleString('en') : value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
}

function verdict(figure: Figure): string {
  if (figure.aim === undefined) return ''
  if (figure.value <= figure.aim) return 'met'
  return `missed (${(figure.value / figure.aim).toFixed(1)}×)`
}

export function write(machine: Machine, busyPercent: number, figures: readonly Figure[], stages: ReadonlyMap<string, string>): void {
  const folder = import.meta.dirname
  const lines = [{ machine, busyPercent }, ...figures].map((line) => JSON.stringify(line))
  writeFileSync(path.join(folder, 'results.jsonl'), `${lines.join('\n')}\n`)
  const out = [
    '# Measured',
    '',
    'Made by `npm run bench` (bench/run.ts); the same as JSON lines in `results.jsonl`. CPU is user and system time of all threads of the',
  ]
  out.push('server process, from /proc. Rivals ran in the same run on the same machine. Figures of a shared machine vary by some 25 %.', '')
  out.push(
    `${machine.date} · commit ${machine.commit} · ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGb} GB · ${machine.system} · ${machine.disk} · Node ${machine.node}`,
  )
  for (const [stage, text] of stages) {
    const own = figures.filter((figure) => figure.stage === stage)
    if (own.length === 0) continue
    out.push('', `## ${stage}`, '', text, '', '| what | measured | aim | |', '| --- | ---: | ---: | --- |')
    for (const figure of own) {
      const notes = [verdict(figure), figure.note].filter((note) => note !== undefined && note !== '').join('; ')
      out.push(
        `| ${figure.what} | ${number(figure.value)} ${figure.unit} | ${figure.aim === undefined ? '' : `≤ ${number(figure.aim)} ${figure.unit}`} | ${notes} |`,
      )
    }
  }
  writeFileSync(path.join(folder, 'RESULTS.md'), `${out.join('\n')}\n`)
}
