type About = {
  readonly description: string
  readonly unit?: string
  readonly secret?: boolean
  /** A running server takes a new value over; the others wait for a restart. */
  readonly reload?: boolean
}
interface TextSetting extends About {
  readonly type: 'string'
  readonly default: string
}
/** How long something is kept: `90d`; empty: for ever. */
interface AgeSetting extends TextSetting {
  readonly format: 'age'
}
/** Rules of retention: core/retention-rules.ts. A list in the configuration file, JSON elsewhere; empty: none. */
interface RulesSetting extends TextSetting {
  readonly format: 'rules'
}
/** A length of time: `15m`, `1h`, `7d`. Bounds in microseconds. */
export interface SpanSetting extends TextSetting {
  readonly format: 'span'
  readonly leastUs: number
  readonly mostUs: number
  /** `0` is taken, too, and means what the description says. */
  readonly zero?: boolean
}
interface ChoiceSetting<C extends string> extends About {
  readonly type: 'string'
  readonly enum: readonly C[]
  readonly default: C
}
interface FlagSetting extends About {
  readonly type: 'boolean'
  readonly default: boolean
}
interface WholeSetting extends About {
  readonly type: 'integer'
  readonly default: number
  readonly minimum?: number
  readonly maximum?: number
}
interface NumberSetting extends About {
  readonly type: 'number'
  readonly default: number
  readonly minimum: number
  readonly maximum: number
}
/** A leaf is JSON Schema with a unit; a schema library would cost a fifth of a second at each start (docs/adr/0006). */
export type Setting = TextSetting | AgeSetting | RulesSetting | SpanSetting | ChoiceSetting<string> | FlagSetting | WholeSetting | NumberSetting
export interface Branch {
  readonly [name: string]: Setting | Branch
}
type ValueOf<S> =
  S extends ChoiceSetting<infer C>
    ? C
    : S extends { readonly type: 'boolean' }
      ? boolean
      : S extends { readonly type: 'integer' | 'number' }
        ? number
        : string
export type ValuesOf<B> = {
  readonly [K in keyof B]: B[K] extends { readonly type: string; readonly description: string } ? ValueOf<B[K]> : ValuesOf<B[K]>
}

export const text = (o: Omit<TextSetting, 'type'>): TextSetting => ({ type: 'string', ...o })
export const age = (o: About & { readonly default?: string }): AgeSetting => ({ type: 'string', format: 'age', default: '', ...o })
export const rules = (o: About): RulesSetting => ({ type: 'string', format: 'rules', default: '', ...o })
export const choice = <C extends string>(values: readonly C[], o: About & { readonly default: NoInfer<C> }): ChoiceSetting<C> => ({
  type: 'string',
  enum: values,
  ...o,
})
export const flag = (o: Omit<FlagSetting, 'type'>): FlagSetting => ({ type: 'boolean', ...o })
export const whole = (o: Omit<WholeSetting, 'type'>): WholeSetting => ({ type: 'integer', ...o })
export const fraction = (o: Omit<NumberSetting, 'type'>): NumberSetting => ({ type: 'number', ...o })
export const span = (o: Omit<SpanSetting, 'type' | 'format'>): SpanSetting => ({ type: 'string', format: 'span', ...o })
