import { KymoError } from '../../core/errors.ts'
import type { CardValue } from '../../wire/model-file.ts'
import { decodeModelFile, encodeModelFile } from '../../wire/model-file.ts'
import { StateReader } from '../window/state-bytes.ts'
import { ensembleOf } from './ensemble.ts'
import { holtWinters } from './holt-winters.ts'
import { lstm } from './lstm/lstm.ts'
import type { Forecaster, Model, ModelKind } from './model.ts'
import { ridge } from './ridge.ts'
import { seasonalNaive } from './seasonal-naive.ts'
import { gradientBoosting } from './trees/gradient-boosting.ts'
import { randomForest } from './trees/random-forest.ts'

/** Every kind that can be trained. A new one is one line here. */
export const forecasters: readonly Forecaster[] = [seasonalNaive, holtWinters, ridge, randomForest, gradientBoosting, lstm]

/** Every kind that can be in a file. */
const kinds: readonly ModelKind[] = [...forecasters, ensembleOf(modelOf)]

export function forecasterOf(kind: string): Forecaster | undefined {
  return forecasters.find((one) => one.kind === kind)
}

/** The bytes of a model's file. `card`: see ModelFile; kind, step, horizon, context and facts of the model are added to it. */
export function writeModel(model: Model, card: Readonly<Record<string, CardValue>>): Uint8Array {
  const { kind, horizon, context, stepUs, facts } = model
  return encodeModelFile({ kind, card: { ...card, kind, horizon, context, step_us: stepUs, facts: { ...facts } }, body: model.body() })
}

/** A model from its file, in a few milliseconds at most. Throws model_format (foreign, newer, or of a kind that is not known) or model_corrupt. */
export function readModel(bytes: Uint8Array): { readonly model: Model; readonly card: Readonly<Record<string, CardValue>> } {
  const { kind, card, body } = decodeModelFile(bytes)
  return { model: modelOf(kind, body), card }
}

function modelOf(kind: string, body: Uint8Array): Model {
  const known = kinds.find((one) => one.kind === kind)
  if (known === undefined) throw new KymoError('model_format', { detail: `A model of the kind "${kind}" is not known to this version of Kymo.` })
  const version = body.length < 6 ? 0 : new DataView(body.buffer, body.byteOffset, body.byteLength).getUint16(4, true)
  if (version > known.version) {
    throw new KymoError('model_format', {
      detail: `The ${kind} model has layout ${version}, and this version of Kymo knows ${known.version}. Train it again, or use the version that wrote it.`,
    })
  }
  try {
    const reader = new StateReader(body, known.letters, known.version)
    const model = known.restore(reader)
    if (!reader.ended) throw new Error('bytes are left over')
    return model
  } catch (cause) {
    if (cause instanceof KymoError && cause.code === 'model_format') throw cause
    throw new KymoError('model_corrupt', { detail: `The file does not hold a ${kind} model as it should. Train it again.`, cause })
  }
}
