import { KymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import { faultText, nameFault } from './payload/names.ts'

/** What a topic is to the ingest path. */
export interface TopicMatch {
  /** False: the message is routed to subscribers only. */
  readonly telemetry: boolean
  /** The device that the topic names. */
  readonly device?: string
  /** Telemetry by its template, but what stands in the device's place is no device id. */
  readonly refused?: string
}

/** Topics that carry telemetry unless configuration says otherwise. S1's comes first. */
export const defaultTelemetryTopics: readonly string[] = [
  'portfolio/telemetry',
  'devices/{device}/telemetry',
  'telemetry',
  'telemetry/{device}',
  'sensors/{device}/data',
]

const templatesMax = 1_000
/** 16,384 x (256 characters and the match) = 8 MB. Longer topics are judged anew each time. */
const cachedMax = 16_384
const cachedCharsMax = 256
const notTelemetry: TopicMatch = { telemetry: false }
const telemetryOnly: TopicMatch = { telemetry: true }

type Level =
  | { readonly kind: 'name'; readonly text: string }
  /** `+`, `#`, `{device}`, `{device...}`. */
  | { readonly kind: 'one' | 'rest' | 'device' | 'device-rest' }

/**
 * Which topics are telemetry. A template is an MQTT topic filter (levels, `+` for one level, `#` at the end for any number of them,
 * MQTT 3.1.1 section 4.7.1) in which one level may be `{device}`: the device id. At the end `{device...}` takes one or more levels, for
 * ids that hold a slash. The first template that fits decides. Wildcards and `{device}` at the beginning do not match topics that
 * begin with `$` (section 4.7.2).
 */
export class TelemetryTopics {
  readonly #templates: readonly (readonly Level[])[]
  /** Few topics carry nearly all messages. Emptied when full. */
  readonly #cached = new Map<string, TopicMatch>()

  /** Throws config_invalid for a template that is none. */
  constructor(templates: readonly string[]) {
    if (templates.length > templatesMax) throw new KymoError('config_invalid', { detail: `More than ${templatesMax} telemetry topics.` })
    this.#templates = templates.map(parseTemplate)
  }

  match(topic: string): TopicMatch {
    const cached = this.#cached.get(topic)
    if (cached !== undefined) return cached
    const match = this.#find(topic)
    if (topic.length <= cachedCharsMax) {
      if (this.#cached.size >= cachedMax) this.#cached.clear()
      this.#cached.set(topic, match)
    }
    return match
  }

  #find(topic: string): TopicMatch {
    const levels = topic.split('/')
    for (const template of this.#templates) {
      const device = fit(template, levels)
      if (device === undefined) continue
      if (device === '' && !template.some((level) => level.kind === 'device' || level.kind === 'device-rest')) return telemetryOnly
      const fault = nameFault(device)
      if (fault !== undefined) return { telemetry: true, refused: `The topic's device id is not valid: ${faultText(fault)}.` }
      return { telemetry: true, device }
    }
    return notTelemetry
  }
}

/** The device id ('' when the template names none), or undefined when the topic does not fit. */
function fit(template: readonly Level[], levels: readonly string[]): string | undefined {
  let device = ''
  if (levels[0]!.startsWith('$') && template[0]!.kind !== 'name') return undefined
  for (let i = 0; i < template.length; i++) {
    const level = template[i]!
    // `a/#` matches `a` too.
    if (level.kind === 'rest') return device
    const text = levels[i]
    if (text === undefined) return undefined
    if (level.kind === 'device-rest') return levels.slice(i).join('/')
    if (level.kind === 'device') device = text
    else if (level.kind === 'name' && level.text !== text) return undefined
  }
  return levels.length === template.length ? device : undefined
}

function parseTemplate(template: string): readonly Level[] {
  const invalid = (why: string): never => {
    throw new KymoError('config_invalid', { detail: `The telemetry topic ${JSON.stringify(template)} is not valid: ${why}.` })
  }
  if (template === '') invalid('it is empty')
  if (new TextEncoder().encode(template).length > limits.mqttTopicBytesMax) invalid(`it is longer than ${limits.mqttTopicBytesMax} bytes`)
  if (template.includes('\0') || !template.isWellFormed()) invalid('it has characters that no topic has')
  const parts = template.split('/')
  if (parts.length > limits.mqttTopicLevelsMax) invalid(`it has more than ${limits.mqttTopicLevelsMax} levels`)
  let devices = 0
  return parts.map((part, i): Level => {
    const last = i === parts.length - 1
    if (part === '+') return { kind: 'one' }
    if (part === '#') return last ? { kind: 'rest' } : invalid('# may only be the last level')
    if (part === '{device}' || part === '{device...}') {
      if (++devices > 1) invalid('it names the device twice')
      if (part === '{device}') return { kind: 'device' }
      return last ? { kind: 'device-rest' } : invalid('{device...} may only be the last level')
    }
    if (/[+#]/.test(part)) invalid('+ and # stand for whole levels')
    if (/[{}]/.test(part)) invalid('only {device} and {device...} may stand in braces, as a whole level')
    return { kind: 'name', text: part }
  })
}
