import { errorTable, httpStatus } from '../../../core/errors.ts'
import type { Code } from '../../../core/errors.ts'
import { escapeHtml, htmlPage } from './html.ts'

/** As much of an OpenAPI document as the page shows. */
export interface OpenApiDocument {
  readonly openapi: string
  readonly info: { readonly title: string; readonly version: string; readonly description?: string }
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly tags?: readonly { readonly name: string; readonly description?: string }[]
  readonly components: { readonly schemas?: Readonly<Record<string, unknown>>; readonly [part: string]: unknown }
  readonly [part: string]: unknown
}

export interface Operation {
  readonly operationId?: string
  readonly summary?: string
  readonly description?: string
  readonly tags?: readonly string[]
  readonly parameters?: readonly {
    readonly name: string
    readonly in: string
    readonly required?: boolean
    readonly description?: string
    readonly schema?: Shown
  }[]
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema?: Shown }>> }
  readonly responses: Readonly<
    Record<string, { readonly description?: string; readonly content?: Readonly<Record<string, { readonly schema?: Shown }>> }>
  >
  readonly security?: readonly unknown[]
}

interface Shown {
  readonly type?: string | readonly string[]
  readonly description?: string
  readonly enum?: readonly unknown[]
  readonly items?: Shown
  readonly properties?: Readonly<Record<string, Shown>>
  readonly format?: string
}

function typeText(schema: Shown): string {
  if (schema.enum !== undefined) return schema.enum.map(String).join(' | ')
  if (schema.type === 'array') return `list of ${schema.items === undefined ? 'any' : typeText(schema.items)}`
  const type = schema.type ?? 'any'
  return `${typeof type === 'string' ? type : type.join(' | ')}${schema.format === undefined ? '' : ` (${schema.format})`}`
}

function rowsOf(schema: Shown, prefix: string): string {
  const object = schema.type === 'array' ? schema.items : schema
  return Object.entries(object?.properties ?? {})
    .map(([name, property]) => {
      const path = `${prefix}${name}`
      const inner = property.type === 'array' ? `${path}[].` : `${path}.`
      return tableRow([codeHtml(path), escapeHtml(typeText(property)), proseHtml(property.description ?? '')]) + rowsOf(property, inner)
    })
    .join('')
}

function tableRow(cells: readonly string[]): string {
  return `<tr>${cells.map((cell) => `<td>${cell}</td>`).join('')}</tr>`
}

/** Descriptions mark names as Markdown does. */
function proseHtml(text: string): string {
  return escapeHtml(text).replaceAll(/`([^`]+)`/g, '<code>$1</code>')
}

function codeHtml(text: string): string {
  return `<code>${escapeHtml(text)}</code>`
}

function contentHtml(content: Readonly<Record<string, { readonly schema?: Shown }>> | undefined): string {
  return Object.entries(content ?? {})
    .map(([type, { schema }]) => {
      const rows = schema === undefined ? '' : rowsOf(schema, schema.type === 'array' ? '[].' : '')
      const about = schema?.description === undefined ? '' : ` ${proseHtml(schema.description)}`
      return `<p><code>${escapeHtml(type)}</code>${about}</p>${rows === '' ? '' : `<table>${rows}</table>`}`
    })
    .join('')
}

function operationHtml(method: string, path: string, operation: Operation): string {
  const parameters = (operation.parameters ?? [])
    .map((p) => {
      const about = `${p.required === true ? 'Required. ' : ''}${p.description ?? p.schema?.description ?? ''}`
      return tableRow([`${codeHtml(p.name)} <span class="soft">${escapeHtml(p.in)}</span>`, escapeHtml(typeText(p.schema ?? {})), proseHtml(about)])
    })
    .join('')
  const responses = Object.entries(operation.responses)
    .filter(([status]) => status !== 'default')
    .map(([status, response]) => `<h4>${escapeHtml(status)}: ${proseHtml(response.description ?? '')}</h4>${contentHtml(response.content)}`)
    .join('')
  const id = escapeHtml(operation.operationId ?? `${method}-${path}`)
  return `<details id="${id}"><summary><span class="method">${method.toUpperCase()}</span>${codeHtml(path)}
<span class="soft">${escapeHtml(operation.summary ?? '')}</span></summary>
<p>${proseHtml(operation.description ?? '')}</p>
${parameters === '' ? '' : `<table>${parameters}</table>`}
${operation.requestBody === undefined ? '' : `<h4>Body</h4>${contentHtml(operation.requestBody.content)}`}
${responses}</details>`
}

function errorsHtml(): string {
  const rows = Object.entries(errorTable)
    .map(
      ([code, { id, text }]) =>
        `<tr id="error-${code}"><td><code>${code}</code></td><td>${httpStatus(code as Code)}</td><td>${id}</td><td>${escapeHtml(text)}</td></tr>`,
    )
    .join('')
  const about = 'Every error is a problem document (RFC 9457) with one of these codes. <code>errors</code> names the fields.'
  return `<h2 id="errors">Errors</h2><p>${about}</p><table>${rows}</table>`
}

/** The reference as one page: no script, nothing loaded from elsewhere. */
export function docsPage(document: OpenApiDocument): string {
  // In the order in which the document lists its tags.
  const groups = new Map<string, string[]>((document.tags ?? []).map(({ name }) => [name, []]))
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags?.[0] ?? 'other'
      const group = groups.get(tag) ?? []
      groups.set(tag, group)
      group.push(operationHtml(method, path, operation))
    }
  }
  const shown = [...groups].filter(([, operations]) => operations.length > 0)
  const anchor = (tag: string): string => `tag-${escapeHtml(tag.replaceAll(' ', '-'))}`
  const title = (tag: string): string => escapeHtml(tag[0]!.toUpperCase() + tag.slice(1))
  const about = new Map((document.tags ?? []).map(({ name, description }) => [name, description ?? '']))
  const sections = shown.map(
    ([tag, operations]) => `<h2 id="${anchor(tag)}">${title(tag)}</h2><p class="soft">${escapeHtml(about.get(tag) ?? '')}</p>${operations.join('')}`,
  )
  const jumps = shown.map(([tag]) => `<a href="#${anchor(tag)}">${title(tag)}</a>`)
  return htmlPage(
    `${document.info.title} API`,
    `
<h1>${escapeHtml(document.info.title)} API</h1>
<p class="soft">Version ${escapeHtml(document.info.version)} · <a href="/openapi.json">openapi.json</a> · <a href="/">start page</a></p>
<p>${proseHtml(document.info.description ?? '')}</p>
<nav>${jumps.join('')}<a href="#errors">Errors</a></nav>
${sections.join('')}${errorsHtml()}`,
  )
}
