import { limits } from '../../core/limits.ts'
import { beginState } from '../window/state-bytes.ts'
import type { Model, ModelKind } from './model.ts'
import type { Refusal } from './series.ts'

const kind = { kind: 'ensemble', letters: 'ENSE', version: 1 } as const

/** The average of trained models. Where some refuse a history, the others answer; where all do, the first one's reason is given. */
export function averageOf(members: readonly Model[], weights: readonly number[] = members.map(() => 1 / members.length)): Model {
  const [first] = members
  if (first === undefined || members.length > limits.ensembleMembersMax) throw new Error(`an ensemble of ${members.length} members`)
  if (weights.length !== members.length || !weights.every((w) => w > 0 && w <= 1)) throw new Error('weights of an ensemble are above 0 and at most 1')
  const horizon = Math.min(...members.map((m) => m.horizon))
  const buffer = new Float64Array(horizon)
  return {
    kind: kind.kind,
    horizon,
    context: Math.max(...members.map((m) => m.context)),
    stepUs: first.stepUs,
    facts: Object.fromEntries(members.map((m, i) => [`member_${i + 1}`, `${m.kind}, weight ${weights[i]!.toFixed(3)}`])),
    predict(history, out) {
      const own = buffer.subarray(0, out.length)
      out.fill(0)
      let answered = 0
      let refusal: Refusal | undefined
      for (let m = 0; m < members.length; m++) {
        const refused = members[m]!.predict(history, own)
        refusal ??= refused
        if (refused !== undefined) continue
        for (let h = 0; h < own.length; h++) out[h]! += weights[m]! * own[h]!
        answered += weights[m]!
      }
      if (answered === 0) return refusal
      for (let h = 0; h < out.length; h++) out[h]! /= answered
      return undefined
    },
    body() {
      const writer = beginState(kind.letters, kind.version, 1_024)
      writer.u8(members.length)
      for (let m = 0; m < members.length; m++) {
        writer.f64(weights[m]!)
        writer.text(members[m]!.kind)
        writer.bytes(members[m]!.body())
      }
      return writer.finish()
    },
  }
}

/** `modelOf`: makes a member from the body of its file. Ensembles are no members of each other. */
export function ensembleOf(modelOf: (kind: string, body: Uint8Array) => Model): ModelKind {
  return {
    ...kind,
    restore(reader) {
      const members: Model[] = []
      const weights: number[] = []
      for (let left = reader.u8(); left > 0; left--) {
        weights.push(reader.f64())
        const member = reader.text()
        if (member === kind.kind) throw new Error('an ensemble within an ensemble')
        members.push(modelOf(member, reader.bytes()))
      }
      if (members.some((m) => m.stepUs !== members[0]?.stepUs)) throw new Error('members of different steps')
      return averageOf(members, weights)
    },
  }
}
