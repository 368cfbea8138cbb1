import type {
  FastifyBaseLogger,
  FastifyInstance,
  FastifyTypeProvider,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from 'fastify'
import type { XStatic } from 'typebox/schema'
import type { Principal, Scope } from '../../core/services.ts'

/** Request types follow from the route's plain JSON Schemas (TypeBox's type level only; nothing of it is loaded). */
export interface SchemaTypes extends FastifyTypeProvider {
  readonly validator: XStatic<this['schema']>
  readonly serializer: unknown
}

export type App = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression<RawServerDefault>,
  RawReplyDefaultExpression<RawServerDefault>,
  FastifyBaseLogger,
  SchemaTypes
>

/** How a seed's route words its errors: problem details with one more member, `error`. */
export interface CompatErrors {
  /** The seed's text when something of ours fails; what is wrong with the request is told as it is. */
  readonly failed: string
  /** What the seed answers where the request is not valid: all with 400 where our own routes tell 400 from 422, or with 422 what is 400 there. */
  readonly invalidStatus?: 400 | 422
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What the caller must be allowed to do. Absent: admin, so that forgetting it opens nothing. */
    readonly scope?: Scope | 'none'
    readonly compat?: CompatErrors
    /** InfluxDB's v1 API: a token may stand in Basic authorization and in the query as well. */
    readonly influx?: true
    /** The handler reads the body itself, as bytes. */
    readonly rawBody?: true
    /** Answered while draining as well. */
    readonly always?: true
  }
  interface FastifyRequest {
    principal: Principal | undefined
    /** On the monotonic clock. */
    startedMs: number
  }
}
