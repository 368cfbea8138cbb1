import type { SeriesScore } from '../../compute/forecast/score.ts'
import type { Refusal } from '../../compute/forecast/series.ts'
import { isRefusal } from '../../compute/forecast/series.ts'

/** Scores of one column as they are printed. Numbers that do not exist are null. */
export interface ColumnFigures {
  readonly sensor?: string
  readonly column: string
  readonly model?: string
  readonly refused?: string
  readonly reason?: string
  readonly origins?: number
  /** Origins at which the model had no answer, and seasonal naive was served. */
  readonly fallbacks?: number
  readonly targets?: number
  readonly mse?: number | null
  readonly mae?: number | null
  readonly mase?: number | null
  readonly skill_mse?: number | null
  readonly skill_mae?: number | null
  readonly coverage?: Readonly<Record<string, number | null>>
  readonly width?: Readonly<Record<string, number | null>>
  readonly pinball?: Readonly<Record<string, number | null>>
  readonly raw?: { readonly mse: number | null; readonly mae: number | null; readonly rmse: number | null; readonly bias: number | null }
  readonly naive?: { readonly mse: number | null; readonly mae: number | null }
  readonly validation?: readonly { readonly name: string; readonly skill?: number | null; readonly refused?: string }[]
  readonly facts?: Readonly<Record<string, number | string>>
}

const finite = (value: number): number | null => (Number.isFinite(value) ? value : null)

export function figures(
  { sensor, column }: { readonly sensor: string | undefined; readonly column: string },
  score: { readonly levels: readonly number[]; readonly result: SeriesScore | Refusal },
): ColumnFigures {
  const name = { ...(sensor === undefined ? {} : { sensor }), column }
  const { levels, result } = score
  if (isRefusal(result)) return { ...name, refused: result.refused, reason: result.detail }
  const byLevel = (pick: (i: number) => number): Record<string, number | null> =>
    Object.fromEntries(levels.map((level, i) => [String(level), finite(pick(i))]))
  const { scores, naive, intervals } = result
  return {
    ...name,
    model: result.name,
    origins: result.origins,
    fallbacks: result.refusals,
    targets: scores.n,
    mse: finite(result.mse),
    mae: finite(result.mae),
    mase: finite(scores.mase),
    skill_mse: finite(result.skillMse),
    skill_mae: finite(result.skillMae),
    coverage: byLevel((i) => intervals[i]!.coverage),
    width: byLevel((i) => intervals[i]!.width),
    pinball: byLevel((i) => intervals[i]!.pinball),
    raw: { mse: finite(scores.mse), mae: finite(scores.mae), rmse: finite(scores.rmse), bias: finite(scores.bias) },
    naive: { mse: finite(naive.mse), mae: finite(naive.mae) },
    validation: result.candidates.map(({ name: candidate, skill, refusal }) => ({
      name: candidate,
      ...(skill === undefined ? {} : { skill: finite(skill) }),
      ...(refusal === undefined ? {} : { refused: refusal.refused }),
    })),
    facts: result.model.facts,
  }
}

/** Plain means over the columns that were answered. */
export function meanFigures(parts: readonly ColumnFigures[]): Pick<ColumnFigures, 'mse' | 'mae' | 'mase' | 'skill_mse' | 'skill_mae' | 'coverage'> {
  const answered = parts.filter((part) => part.refused === undefined)
  const mean = (pick: (part: ColumnFigures) => number | null | undefined): number | null => {
    const there = answered.map(pick).filter((v) => typeof v === 'number')
    return there.length === 0 ? null : there.reduce((sum, v) => sum + v, 0) / there.length
  }
  const levels = Object.keys(answered[0]?.coverage ?? {})
  return {
    mse: mean((part) => part.mse),
    mae: mean((part) => part.mae),
    mase: mean((part) => part.mase),
    skill_mse: mean((part) => part.skill_mse),
    skill_mae: mean((part) => part.skill_mae),
    coverage: Object.fromEntries(levels.map((level) => [level, mean((part) => part.coverage?.[level])])),
  }
}
