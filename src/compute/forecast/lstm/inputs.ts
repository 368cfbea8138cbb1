import { waveAt } from '../season-waves.ts'
import type { NetworkShape } from './network.ts'

/** How a window is cut: `steps` of `patch` values each, oldest first. */
export interface Cut {
  readonly steps: number
  readonly patch: number
}

/** Sine and cosine of the season. */
const waves = 2

/** Of a step: 1, its values, its place in the season. */
export function inputCount({ patch }: Cut, season: number): number {
  return 1 + patch + (season > 1 ? waves : 0)
}

export function shapeOf(cut: Cut, units: number, season: number, horizon: number): NetworkShape {
  return { units, inputs: inputCount(cut, season), steps: cut.steps, outputs: 8 * Math.ceil(horizon / 8) }
}

export interface Scales {
  /** Of values in the window relative to the last one. */
  readonly inputs: number
  /** Of what is forecast, relative to the last value. */
  readonly targets: number
}

/**
 * Writes what the network reads of the window values[from ...]: values relative to the last one, and the season's wave at each step, by the phase of
 * the last value. The head reads the last patch once more, and the wave of the present.
 */
export function writeInputs(
  values: Float64Array,
  from: number,
  phase: number,
  { cut, season, scale }: { readonly cut: Cut; readonly season: number; readonly scale: number },
  floats: Float32Array,
  inputAt: (step: number) => number,
): void {
  const { steps, patch } = cut
  const last = values[from + steps * patch - 1]!
  for (let step = 0; step <= steps; step++) {
    const at = inputAt(step)
    const read = from + Math.min(step, steps - 1) * patch
    floats[at] = 1
    for (let i = 0; i < patch; i++) floats[at + 1 + i] = (values[read + i]! - last) / scale
    if (season <= 1) continue
    const there = phase - ((steps - 1 - Math.min(step, steps - 1)) * patch) / season
    for (let k = 0; k < waves; k++) floats[at + 1 + patch + k] = waveAt(there, k + 1)
  }
}
