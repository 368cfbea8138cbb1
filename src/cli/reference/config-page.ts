import { aliases, type Alias } from '../../core/config-aliases.ts'
import { configLeaves } from '../../core/config.ts'

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ')

const intro = `Every setting has one name in four places: \`http.port\` is \`--http-port\`, \`KYMO_HTTP_PORT\`, and in the file

\`\`\`yaml
http:
  port: 8080
\`\`\`

A flag wins over the environment, the environment over the file, the file over the [variables of other projects](#variables-of-other-projects), those over
the default. \`kymo config show\` tells each value and where it comes from.

**File.** \`--config FILE\`, else \`KYMO_CONFIG\`, else \`kymo.yaml\` in the working directory when it is there. YAML 1.2, at most 256 KiB. What is not known,
of the wrong type, out of range or given twice is refused with line and column, all errors at once (\`kymo config check FILE\`, exit code 3). Anchors,
aliases and tags are not taken. An unknown \`KYMO_\` variable is refused as well; \`KYMO_TEST_*\` is left alone.

**Secrets.** A setting marked secret is never shown. In the file it may be \`{file: /run/secrets/key}\`, in the environment \`…_FILE\` names a file.

**Reload.** \`kymo config reload\`, or SIGHUP to a server that has no terminal, reads the file again. What is marked "reload" is then in effect; what is not
stays as it was, and the log says that it needs a restart. When the file has an error, nothing changes. In a terminal SIGHUP ends the server.`

function typeOf(schema: Readonly<Record<string, unknown>>): string {
  if (Array.isArray(schema['enum'])) return schema['enum'].map((one) => `\`${String(one)}\``).join(' or ')
  const { minimum, maximum } = schema
  const range =
    minimum === undefined && maximum === undefined
      ? ''
      : ` (${minimum === undefined ? '' : Number(minimum)}–${maximum === undefined ? '' : Number(maximum)})`
  const names: Readonly<Record<string, string>> = { integer: 'whole number', number: 'number', boolean: 'true or false', string: 'text' }
  return `${names[String(schema['type'])] ?? String(schema['type'])}${range}`
}

function statusOf({ setting, readBy }: Alias, known: ReadonlySet<string>): string {
  if (readBy !== undefined) return `kymo ${readBy}`
  return setting !== undefined && known.has(setting) ? `\`${setting}\`` : 'pending: a warning at the start'
}

/** docs/reference/config.md, and what `kymo config docs` prints; with `generated` as its second paragraph. */
export function configPage(generated: string): string {
  const leaves = configLeaves()
  const out = ['# Configuration', '', generated, '', intro]
  let branch: string | undefined
  for (const leaf of leaves) {
    const here = leaf.name.includes('.') ? leaf.name.split('.')[0]! : ''
    if (here !== branch) out.push('', `## ${here === '' ? 'General' : here}`)
    branch = here
    const { description, default: value, unit, secret, reload } = leaf.schema
    if (description === undefined) throw new Error(`the setting ${leaf.name} has no description`)
    out.push(
      '',
      `### ${leaf.name}`,
      '',
      cell(description),
      '',
      '| flag | environment | type | default | while it runs |',
      '| --- | --- | --- | --- | --- |',
    )
    const shown = value === '' ? '(empty)' : `\`${String(value)}\``
    out.push(
      `| \`${leaf.flag}\` | \`${leaf.env}\` | ${typeOf({ ...leaf.schema })}${secret === true ? ', secret' : ''} | ` +
        `${shown}${unit === undefined ? '' : ` ${unit}`} | ${reload === true ? 'reload' : 'restart'} |`,
    )
  }
  out.push('', '## Variables of other projects', '')
  out.push('Read with the effect that is stated; the start says which are used, and which are set but have no effect in this version.', '')
  out.push('| variable | effect | here |', '| --- | --- | --- |')
  const known = new Set(leaves.map(({ name }) => name))
  for (const alias of aliases) {
    const beside = alias.beside === undefined ? '' : ` (beside \`${alias.beside}\`)`
    out.push(`| \`${alias.variable}\` | ${cell(alias.effect)}${beside} | ${statusOf(alias, known)} |`)
  }
  return `${out.join('\n')}\n`
}
