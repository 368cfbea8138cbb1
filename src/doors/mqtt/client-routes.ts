import { copyBytes, decodeText } from '../../wire/mqtt/text.ts'
import { ReasonCode } from '../../wire/mqtt/v5/reason.ts'
import type { MqttPrincipal } from './authorizer.ts'
import type { MqttHost } from './host.ts'
import { contextOf } from './host.ts'
import { isReserved } from './filter.ts'
import type { Route } from './routes.ts'
import { RouteCache } from './routes.ts'

/** The routes of one client's topics, by name and by topic alias. */
export class ClientRoutes {
  readonly #host: MqttHost
  readonly #principal: MqttPrincipal
  readonly #byName: RouteCache
  /** By alias (MQTT 5, 3.3.2.3.4). The codec has checked that one without a name is known. */
  #byAlias: Route[] | undefined

  constructor(host: MqttHost, principal: MqttPrincipal) {
    this.#host = host
    this.#principal = principal
    this.#byName = new RouteCache(host.limits.routesPerClientMax, host.random.next() * 2 ** 32)
  }

  /** The route of a topic that is remembered and that the client may use. */
  named(bytes: Uint8Array, start: number, end: number, retain: boolean): Route | undefined {
    const found = this.#byName.find(bytes, start, end)
    const route = retain ? (found?.retained ?? found) : found
    return route === undefined || route.use === 'denied' ? undefined : route
  }

  /** The route of the topic bytes[start, end), or of the alias when that is empty. Undefined: the topic is longer or deeper than the limit. */
  of(bytes: Uint8Array, start: number, end: number, alias: number, retain: boolean): Route | undefined {
    const route = this.#of(bytes, start, end, alias)
    return retain ? (route?.retained ?? route) : route
  }

  #of(bytes: Uint8Array, start: number, end: number, alias: number): Route | undefined {
    if (alias === 0) return this.#byName.find(bytes, start, end) ?? this.#learn(bytes, start, end)
    if (start === end) return this.#byAlias?.[alias]
    const route = this.#byName.find(bytes, start, end) ?? this.#learn(bytes, start, end)
    if (route !== undefined) (this.#byAlias ??= [])[alias] = route
    return route
  }

  #learn(bytes: Uint8Array, start: number, end: number): Route | undefined {
    const { limits, topics, authorizer } = this.#host
    if (end - start > limits.topicBytesMax || levelsOf(bytes, start, end) > limits.topicLevelsMax) return undefined
    const topic = decodeText(bytes, start, end)
    const allowed = isReserved(topic) || authorizer.publish(this.#principal, topic, false)
    const found = topics.match(topic)
    const use = allowed ? useOf(topic, found) : 'denied'
    const common = {
      topic,
      topicBytes: copyBytes(bytes, start, end),
      use,
      context: contextOf(this.#principal, topic, found.device),
      refused: found.refused,
      reasonCode: reasonOf(topic, use),
      match: this.#host.subscriptions(this.#principal.tenant).match(topic),
    }
    const unretained = allowed && use !== 'reserved' && !authorizer.publish(this.#principal, topic, true)
    const retained: Route | undefined = unretained
      ? { ...common, use: 'denied', reasonCode: ReasonCode.notAuthorized, retained: undefined }
      : undefined
    const route: Route = { ...common, retained }
    this.#byName.add(route)
    return route
  }
}

function useOf(topic: string, found: { readonly telemetry: boolean; readonly refused?: string }): Route['use'] {
  if (isReserved(topic)) return 'reserved'
  if (found.refused !== undefined) return 'misfit'
  return found.telemetry ? 'telemetry' : 'routed'
}

function reasonOf(topic: string, use: Route['use']): number {
  if (use === 'denied') return ReasonCode.notAuthorized
  if (use !== 'reserved') return ReasonCode.success
  return topic.startsWith('$share/') ? ReasonCode.topicNameInvalid : ReasonCode.notAuthorized
}

function levelsOf(bytes: Uint8Array, start: number, end: number): number {
  let levels = 1
  for (let i = start; i < end; i++) if (bytes[i] === 0x2f) levels++
  return levels
}
