import { duration, figure, reading, visible } from './format.ts'

/** Kinds of models as they are called. */
const kindNames: Readonly<Record<string, string>> = {
  'seasonal-naive': 'seasonal naive',
  'holt-winters': 'Holt–Winters',
  ridge: 'ridge',
  'random-forest': 'random forest',
  'gradient-boosting': 'gradient boosting',
  lstm: 'LSTM',
  ensemble: 'average of several',
}

/** Kinds that can be trained. */
export const trainableKinds = ['holt-winters', 'ridge', 'random-forest', 'gradient-boosting', 'lstm'] as const

export function kindName(kind: string): string {
  return Object.hasOwn(kindNames, kind) ? (kindNames[kind] ?? '') : visible(kind)
}

/** As the kind is called; of an average its members, which its card names. */
export function modelName(kind: string, card: Readonly<Record<string, unknown>> | undefined): string {
  const name = card?.['name']
  return kind === 'ensemble' && typeof name === 'string' ? name.split('+').map(kindName).join(' + ') : kindName(kind)
}

/** 31 %, 0.4 %, 100 %: never 0 or 100 of what is only near. */
export function percent(share: number): string {
  if (!Number.isFinite(share)) return '–'
  const value = share * 100
  const rounded = Math.abs(value) < 10 ? Number(value.toFixed(1)) : Math.round(value)
  if (rounded === 0 && value !== 0) return value > 0 ? '< 0.1 %' : '> −0.1 %'
  if (rounded === 100 && value < 100) return '> 99 %'
  return `${String(rounded).replace('-', '−')} %`
}

/** Three figures of an error, with the metric's unit. */
export function amount(value: number | null, unit: string | undefined): string {
  if (value === null) return '–'
  const shown = Math.abs(value) >= 100 ? figure(value) : reading(Number(value.toPrecision(3)))
  return unit === undefined ? shown : `${shown} ${visible(unit)}`
}

/** What a card says of the last part of the series, of which a model had seen nothing. */
function testedSkill(card: Readonly<Record<string, unknown>> | undefined): number | undefined {
  const skill = card?.['skill']
  return typeof skill === 'number' && Number.isFinite(skill) ? skill : undefined
}

/** A skill in short: as it has shown itself, or else in the test before it was kept. */
export function skillFigure(skill: number | null, card: Readonly<Record<string, unknown>>): string {
  const tested = testedSkill(card)
  if (skill !== null) return percent(skill)
  return tested === undefined ? '–' : `${percent(tested)} in its test`
}

/** What a skill means: 1 - error / that of seasonal naive. `card`: of the model, for as long as nothing else is known. */
export function skillText(skill: number | null, card?: Readonly<Record<string, unknown>>): string {
  if (skill === null) {
    const tested = testedSkill(card)
    return tested === undefined ? 'not known yet' : `not known yet; in its test ${skillText(tested)}`
  }
  if (Math.abs(skill) < 0.005) return 'as good as doing nothing'
  return skill > 0 ? `${percent(skill)} less error than doing nothing` : `${percent(-skill)} more error than doing nothing`
}

export function coverageText(level: number, coverage: number | null): string {
  return coverage === null ? `${percent(level)} promised, nothing measured yet` : `${percent(coverage)} delivered of ${percent(level)} promised`
}

/** Page-Hinkley on scaled errors: how far it is from its alarm. `since`: of an alarm that nothing has answered yet, as it is shown. */
export function driftText(statistic: number, threshold: number, since: string | undefined): string {
  if (since !== undefined) return `errors have grown since ${since}`
  const share = threshold > 0 ? statistic / threshold : 0
  return share < 0.01 ? 'none' : `none (at ${percent(Math.min(share, 0.999))} of the alarm)`
}

/** Why seasonal naive answers. */
export function fallbackText(fallback: 'untrained' | 'skill_lost' | 'refused', detail: string | null): string {
  const why = {
    untrained: 'nobody has trained a model of this metric yet',
    skill_lost: 'the trained model has done no better lately',
    refused: 'the trained model had no answer',
  }[fallback]
  return `Seasonal naive answers (what was measured a day before): ${why}.${detail === null || detail === '' ? '' : ` ${visible(detail)}`}`
}

/** `missing`: steps; undefined where the server did not say. */
export function tooLittleText(missing: unknown, stepMs: number | undefined): string {
  if (typeof missing !== 'number' || !(missing > 0)) return 'More readings are needed. Wait, or import history.'
  const time = stepMs === undefined ? '' : ` (${duration(missing * stepMs)})`
  const steps = missing === 1 ? `One more step${time} of readings is` : `${figure(missing)} more steps${time} of readings are`
  return `${steps} needed. Wait, or import history.`
}

export interface CrossingSaid {
  readonly threshold: number
  readonly side: 'above' | 'below'
  readonly within_s: number
  readonly probability: number | null
  readonly reason: string | null
  readonly detail: string | null
  readonly calibration: {
    readonly n: number
    readonly rate: number
    readonly skill: number | null
    readonly bins: readonly { readonly n: number; readonly said: number | null; readonly came: number | null }[]
  } | null
}

const reasons: Readonly<Record<string, string>> = {
  no_skill: 'No skill',
  too_little_data: 'Too little data',
  across_already: 'It is across already',
}

/** The answer to "will it cross?": a number, or why there is none. */
export function crossingText({ threshold, side, within_s: withinS, probability, reason, detail }: CrossingSaid, unit: string | undefined): string {
  if (probability === null) {
    const said = reasons[reason ?? ''] ?? 'No answer'
    return detail === null || detail === '' ? `${said}.` : `${said}: ${visible(detail)}`
  }
  const place = `${side} ${amount(threshold, unit)}`
  return `${percent(probability)} likely to go ${place} within ${duration(withinS * 1000)}`
}

/** Fewer answers than these prove nothing. */
const timesMin = 10

/** How well such numbers have held: of the tenth that the answer lies in where it was given before, else in all. Empty: nothing is known. */
export function calibrationText({ probability, calibration }: CrossingSaid): string {
  if (calibration === null || calibration.n === 0) return 'How well such numbers hold is not known yet.'
  const { n, rate, skill, bins } = calibration
  const usual = `It crossed in ${percent(rate)} of ${figure(n)} past times`
  const gain =
    skill === null
      ? ''
      : skill > 0
        ? `; these numbers had ${percent(skill)} less error than always saying that`
        : '; these numbers were no better than always saying that'
  if (probability === null) return `${usual}${gain}.`
  const told = bins.flatMap(({ n: times, said, came }) => (times < timesMin || said === null || came === null ? [] : [{ times, said, came }]))
  const like = told.toSorted((a, b) => Math.abs(a.said - probability) - Math.abs(b.said - probability))[0]
  const near = like !== undefined && Math.abs(like.said - probability) <= 0.1
  const held = near ? `When it said about ${percent(like.said)} (${like.times} times), it crossed in ${percent(like.came)} of them. ` : ''
  return `${held}${usual}${gain}.`
}

function counted(progress: Readonly<Record<string, unknown>>, name: string): number {
  const value = progress[name]
  return typeof value === 'number' ? value : 0
}

/** What a training counts, as its job tells it. */
export function trainingText(progress: Readonly<Record<string, unknown>>): string {
  const [total, done] = [counted(progress, 'series_total'), counted(progress, 'series_done')]
  return total > 1 ? `${figure(done)} of ${figure(total)} series` : ''
}

/** Between 0 and 1; undefined: it has not said. */
export function shareOf(progress: Readonly<Record<string, unknown>>): number | undefined {
  const { share } = progress
  return typeof share === 'number' && share >= 0 ? Math.min(1, share) : undefined
}

/** How a training ended. */
export function trainedText(progress: Readonly<Record<string, unknown>>): string {
  const [trained, kept, refused] = [counted(progress, 'trained'), counted(progress, 'kept_naive'), counted(progress, 'refused')]
  if (trained + kept + refused <= 1) {
    if (trained === 1) return 'A new version was trained'
    return kept === 1 ? 'Nothing did better than seasonal naive, which goes on answering' : 'There was too little data to train on'
  }
  const parts = [
    [trained, 'trained'],
    [kept, 'where nothing did better than seasonal naive'],
    [refused, 'with too little data'],
  ] as const
  return `Of ${figure(trained + kept + refused)} series: ${parts
    .filter(([n]) => n > 0)
    .map(([n, what]) => `${figure(n)} ${what}`)
    .join(', ')}`
}

/** What the state of a version means. */
export const stateNames: Readonly<Record<'champion' | 'challenger' | 'retired', string>> = {
  champion: 'serves',
  challenger: 'challenger',
  retired: 'retired',
}
