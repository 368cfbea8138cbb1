import { LevelShiftCheck } from '../../compute/anomaly/level-shift.ts'
import { SurpriseDetector, surpriseUsual } from '../../compute/anomaly/surprise.ts'
import { ZScoreCheck } from '../../compute/anomaly/z-score.ts'
import type { NabFile } from './corpus.ts'

export const detectorNames = ['surprise', 'level-shift', 'z-score', 'silent'] as const
export type DetectorName = (typeof detectorNames)[number]

/** What a detector said of a file. */
export interface Run {
  /** Rows at which it alarmed, by its own threshold. */
  readonly alarms: readonly number[]
  /** By row: what another threshold is held against; 0 where it would not alarm whatever the threshold. */
  readonly scores: Float64Array
  /** Rows after an alarm without another. */
  readonly refractory: number
}

/** One configuration for every file: each begins anew and sees each row once, in order. */
export function runDetector(name: DetectorName, { timesUs, values }: NabFile): Run {
  const alarms: number[] = []
  const scores = new Float64Array(values.length)
  const each = (observe: (timeUs: number, value: number) => unknown, score: () => number): void => {
    for (let i = 0; i < values.length; i++) {
      if (observe(timesUs[i]!, values[i]!) !== undefined) alarms.push(i)
      if (Number.isFinite(values[i])) scores[i] = score()
    }
  }
  switch (name) {
    case 'surprise': {
      const detector = new SurpriseDetector()
      each(
        (us, value) => detector.observe(us, value),
        () => (detector.isRare ? detector.score : 0),
      )
      return { alarms, scores, refractory: surpriseUsual.refractory }
    }
    case 'level-shift':
    case 'z-score': {
      const check = name === 'z-score' ? new ZScoreCheck() : new LevelShiftCheck()
      each(
        (us, value) => check.observe(us, value),
        () => check.score,
      )
      return { alarms, scores, refractory: name === 'z-score' ? 1 : 60 }
    }
    case 'silent':
      return { alarms, scores, refractory: 1 }
  }
}

/** Alarms of another threshold, with the same refractory period. */
export function alarmsAt({ scores, refractory }: Run, threshold: number): number[] {
  const alarms: number[] = []
  let until = 0
  for (let i = 0; i < scores.length; i++) {
    if (scores[i]! < threshold || i < until) continue
    alarms.push(i)
    until = i + refractory
  }
  return alarms
}
