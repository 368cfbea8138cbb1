import type { App } from '../app-types.ts'
import type { HttpContext } from '../options.ts'
import type { OpenApiDocument } from '../pages/docs.ts'
import { pageHeaders } from '../pages/html.ts'

/** The reference says nothing about the data: it is open to all. Generated at the first request, as starting must be quick. */
export function docsRoutes(app: App, context: HttpContext): void {
  let generated: Promise<{ readonly document: OpenApiDocument; readonly json: string; readonly html: string }> | undefined
  const generate = async (): Promise<{ document: OpenApiDocument; json: string; html: string }> => {
    const [document, { docsPage }] = await Promise.all([context.describe(context.version), import('../pages/docs.ts')])
    return { document, json: JSON.stringify(document), html: docsPage(document) }
  }

  app.get('/openapi.json', { config: { scope: 'none' }, schema: { hide: true } }, async (_request, reply) => {
    const { json } = await (generated ??= generate())
    return reply.type('application/json; charset=utf-8').send(json)
  })

  app.get('/docs', { config: { scope: 'none' }, schema: { hide: true } }, async (_request, reply) => {
    const { html } = await (generated ??= generate())
    return pageHeaders(reply).send(html)
  })
}
