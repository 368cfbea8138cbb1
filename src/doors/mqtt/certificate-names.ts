import type { ClientCertificate } from './connection.ts'

/** Where the name of a client stands in its certificate: the common name of its subject, or the names of the extension. */
export type CertificateIdentity = 'cn' | 'san'

/** Kinds of names of the extension that name a device. */
const kinds = ['URI:', 'DNS:', 'email:'] as const

/**
 * Names that a verified certificate gives its owner. `cn`: the one common name; a subject with several names nobody by it. `san`: URI, DNS name and
 * e-mail address, in the certificate's order. Empty: it has none.
 */
export function namesOf({ subject, altNames }: ClientCertificate, identity: CertificateIdentity): readonly string[] {
  return identity === 'cn' ? commonNames(subject) : alternativeNames(altNames ?? '')
}

/** `subject` has an attribute in each line, of several in one set joined by " + ", its values escaped as in RFC 2253. */
function commonNames(subject: string): readonly string[] {
  const names = subject
    .split('\n')
    .flatMap((line) => line.split(' + '))
    .filter((attribute) => attribute.startsWith('CN='))
    .map((attribute) => unescaped(attribute.slice(3)))
  return names.length === 1 && names[0] !== '' ? names : []
}

/** RFC 2253, section 2.4: a backslash before the character itself, or before two hexadecimal digits of a byte of UTF-8. */
function unescaped(value: string): string {
  if (!value.includes('\\')) return value
  const parts = [...value.matchAll(/\\([\da-f]{2})|\\(.)|([^\\]+)/gis)].map(([, hex, character, text]) =>
    hex === undefined ? Buffer.from(character ?? text ?? '') : Buffer.from(hex, 'hex'),
  )
  return Buffer.concat(parts).toString()
}

/** As Node writes them: `URI:urn:dev:7, DNS:"a, b"`, a value in quotes, as JSON, where it could be misread. */
function alternativeNames(text: string): readonly string[] {
  const names: string[] = []
  for (const [, kind = '', quoted, plain = ''] of text.matchAll(/(?:^|, )([A-Za-z ]+:)(?:("(?:\\.|[^"\\])*")|([^,]*))/g)) {
    if (!kinds.some((known) => known === kind)) continue
    const name: unknown = quoted === undefined ? plain : JSON.parse(quoted)
    if (typeof name === 'string' && name !== '') names.push(name)
  }
  return names
}
