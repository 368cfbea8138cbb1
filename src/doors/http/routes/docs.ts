import type { App } from '../app-types.ts'
import type { HttpContext } from '../options.ts'
import { pageHeaders } from '../pages/html.ts'
import type { Reference } from '../pages/reference.ts'

/** The reference says nothing about the data: it is open to all. Generated at the first request, as starting must be quick. */
export function docsRoutes(app: App, context: HttpContext): void {
  let made: Promise<Reference> | undefined
  const reference = (): Promise<Reference> => {
    made ??= context.describe(context.version).catch((error: unknown) => {
      made = undefined // the next request tries again
      throw error
    })
    return made
  }

  app.get('/openapi.json', { config: { scope: 'none' }, schema: { hide: true } }, async (_request, reply) => {
    const { json } = await reference()
    return reply.type('application/json; charset=utf-8').send(json)
  })

  app.get('/docs', { config: { scope: 'none' }, schema: { hide: true } }, async (_request, reply) => {
    const { html } = await reference()
    return pageHeaders(reply).send(html)
  })
}
