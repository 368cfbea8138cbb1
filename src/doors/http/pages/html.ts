import { createHash } from 'node:crypto'
import type { FastifyReply } from 'fastify'

export function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;').replaceAll("'", '&#39;')
}

const style = `
:root {
  color-scheme: light dark;
  --ground: light-dark(#fff, #15181a); --ink: light-dark(#1b1f22, #e4e7e9); --soft: light-dark(#5a6268, #a2abb1);
  --line: light-dark(#d9dee2, #343a3f); --panel: light-dark(#f4f6f7, #1e2326); --accent: light-dark(#0a7153, #4fd1a5)
}
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 60rem; background: var(--ground); color: var(--ink) }
h1 { margin-bottom: .25rem } h1 + p, h2 + p { margin-top: 0 } h2 { margin: 2.25rem 0 .25rem; font-size: 1.25rem } h4 { margin: 1rem 0 .25rem }
a { color: var(--accent) } a:hover { text-decoration-thickness: 2px } :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px }
code, pre { font: 13px/1.5 ui-monospace, monospace } td code, summary code { overflow-wrap: anywhere }
pre { background: var(--panel); border: 1px solid var(--line); padding: .75rem 1rem; overflow-x: auto; border-radius: 6px }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; border-block: 1px solid var(--line); padding: .5rem 0 }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem } details:target { border-color: var(--accent) }
summary { cursor: pointer } summary:hover { color: var(--accent) } summary code { margin-right: .5rem; font-weight: 600 }
.method { display: inline-block; min-width: 4.5rem; font-weight: 600; color: var(--accent) }
table { border-collapse: collapse; width: 100%; font-size: 14px } tr:target { background: var(--panel) }
td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line) } td:first-child { white-space: nowrap }
.soft { color: var(--soft) }
@media (max-width: 40rem) { td:first-child { white-space: normal } }
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
