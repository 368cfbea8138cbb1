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

/** Which bench wrote it, and where to. */
export interface Report {
  /** Of the files `NAME.md` and `NAME.jsonl` in this folder. */
  readonly name: string
  /** What it says of itself, a paragraph in lines. */
  readonly about: readonly string[]
}

export function write(report: Report, machine: Machine, busyPercent: number, figures: readonly Figure[], stages: ReadonlyMap<string, string>): void {
  const folder = import.meta.dirname
  const lines = [{ machine, busyPercent }, ...figures].map((line) => JSON.stringify(line))
  writeFileSync(path.join(folder, `${report.name.toLowerCase()}.jsonl`), `${lines.join('\n')}\n`)
  const out = ['# Measured', '', ...report.about, '']
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
  writeFileSync(path.join(folder, `${report.name}.md`), `${out.join('\n')}\n`)
}
