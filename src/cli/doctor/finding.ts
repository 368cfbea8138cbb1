import type { Code } from '../../core/errors.ts'
import { KymoError } from '../../core/errors.ts'
import { exitCodeOf } from '../exit.ts'

/** One line of `kymo doctor`. */
export interface Finding {
  readonly check: string
  readonly status: 'ok' | 'warn' | 'fail'
  /** What was found, in a sentence; never a secret. */
  readonly detail: string
  /** What to do, where there is something to do. */
  readonly fix?: string
  /** Of what fails: its page tells more, its exit code is the command's. */
  readonly code?: Code
}

export const ok = (check: string, detail: string): Finding => ({ check, status: 'ok', detail })
export const warn = (check: string, detail: string, fix: string): Finding => ({ check, status: 'warn', detail, fix })
export const fail = (check: string, code: Code, detail: string, fix: string): Finding => ({ check, status: 'fail', code, detail, fix })

/** 0 when nothing fails; else the exit code of what fails first, in the order of the checks: what comes later may follow from it. */
export function exitOf(findings: readonly Finding[]): number {
  const first = findings.find(({ status }) => status === 'fail')
  return first === undefined ? 0 : exitCodeOf(new KymoError(first.code ?? 'bug'))
}
