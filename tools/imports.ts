/** What one file imports, found without a compiler: comments are blanked, then the four forms of naming a module are matched. */
export interface Import {
  readonly specifier: string
  readonly line: number
  /** `import type`, `export type` or a type query: erased at run time. */
  readonly typeOnly: boolean
}

const textOrComment = /'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\[\s\S])*`|\/\/[^\n]*|\/\*[\s\S]*?\*\//g

/** The source with comments turned into spaces, line ends kept. Strings and templates are left as they are. */
export function withoutComments(source: string): string {
  return source.replace(textOrComment, (part) => (part.startsWith('/') ? part.replace(/[^\n]/g, ' ') : part))
}

/** The source with comments, strings and templates turned into spaces. */
export function withoutText(source: string): string {
  return source.replace(textOrComment, (part) => part.replace(/[^\n]/g, ' '))
}

const forms: readonly RegExp[] = [
  // import … from 'x', export … from 'x'
  /^[ \t]*(?<head>import|export)\s+(?<type>type\s)?(?:[\w*{}\s,$]|\bas\b)*?\bfrom\s*(['"])(?<name>[^'"\n]+)\3/gm,
  // import 'x'
  /^[ \t]*import\s*(['"])(?<name>[^'"\n]+)\1/gm,
  // import('x'): a value, or a type query
  /\bimport\s*\(\s*(['"])(?<name>[^'"\n]+)\1/g,
  // new URL('./x.ts', import.meta.url): a worker or a child process
  /\bnew\s+URL\s*\(\s*(['"])(?<name>\.[^'"\n]+)\1\s*,\s*import\.meta\.url/g,
]

/** Every module that the source names. A computed `import(…)` is given with the specifier `?`: nothing can be said of it. */
export function importsOf(source: string): Import[] {
  const text = withoutComments(source)
  const found: Import[] = []
  const add = (index: number, specifier: string, typeOnly: boolean): void => {
    found.push({ specifier, line: text.slice(0, index).split('\n').length, typeOnly })
  }
  for (const form of forms) {
    for (const match of text.matchAll(form)) {
      const name = match.groups?.['name']
      if (name !== undefined) add(match.index, name, match.groups?.['type'] !== undefined)
    }
  }
  for (const match of text.matchAll(/(?<![.\w])import\s*\(\s*(?!['"\s)])/g)) add(match.index, '?', false)
  return found.toSorted((a, b) => a.line - b.line)
}
