import { createHash } from 'node:crypto'
import type { FastifyReply } from 'fastify'

export function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;').replaceAll("'", '&#39;')
}

const style = `
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #0a7a5a }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 60rem }
h1 { margin-bottom: 0 } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line) }
a { color: var(--accent) } code, pre { font: 13px/1.5 ui-monospace, monospace }
pre { background: var(--soft); padding: .75rem 1rem; overflow-x: auto; border-radius: 6px }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem }
summary { cursor: pointer } .method { display: inline-block; min-width: 4.5rem; font-weight: 600; color: var(--accent) }
table { border-collapse: collapse; width: 100%; font-size: 14px }
td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line) }
.soft { opacity: .7 }
`

const styleHash = createHash('sha256').update(style).digest('base64')

/** Pages carry no script and load nothing from anywhere. */
export function pageHeaders(reply: FastifyReply): FastifyReply {
  return reply
    .type('text/html; charset=utf-8')
    .header(
      'content-security-policy',
      `default-src 'none'; style-src 'sha256-${styleHash}'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
    )
}

export function htmlPage(title: string, body: string): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escapeHtml(title)}</title>
<link rel="icon" href="data:,"><style>${style}</style></head>
<body>${body}</body></html>
`
}
