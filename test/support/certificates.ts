import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'

/** Where a pair lies; `ca` vouches for it. */
export interface Pair {
  readonly cert: string
  readonly key: string
  readonly ca: string
}

/** Certificates made by openssl, in a directory of their own. */
export class Certificates {
  readonly dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-tls-'))
  readonly ca = this.file('ca.pem')
  #serial = 0

  constructor() {
    this.#openssl('req', '-x509', ...this.#newKey('ca.key'), '-out', this.ca, '-days', '30', '-subj', '/CN=Test authority')
  }

  file(name: string): string {
    return path.join(this.dir, name)
  }

  /** For localhost and 127.0.0.1, signed by the authority. `days` may be negative: it has ended then. */
  pair(name: string, o: { readonly days?: number; readonly subject?: string } = {}): Pair {
    const [cert, key, request, extension] = [`${name}.pem`, `${name}.key`, `${name}.csr`, `${name}.ext`].map((one) => this.file(one)) as [
      string,
      string,
      string,
      string,
    ]
    this.#openssl('req', ...this.#newKey(`${name}.key`), '-out', request, '-subj', o.subject ?? `/CN=${name}`)
    fs.writeFileSync(extension, 'subjectAltName=DNS:localhost,IP:127.0.0.1')
    const until = new Date(Date.now() + (o.days ?? 30) * 86_400_000)
    const from = new Date(Math.min(Date.now(), until.getTime()) - 86_400_000)
    const text = (date: Date): string => date.toISOString().replaceAll(/[-:TZ]|\.\d+/g, '')
    const signing = ['-CA', this.ca, '-CAkey', this.file('ca.key'), '-set_serial', String(++this.#serial), '-extfile', extension]
    // `x509 -not_after` is younger than the openssl of most systems: `ca` is not, and wants files of its own.
    if (o.days === undefined || o.days > 0) this.#openssl('x509', '-req', '-in', request, ...signing, '-days', String(o.days ?? 30), '-out', cert)
    else this.#past(request, cert, extension, text(from), text(until))
    return { cert, key, ca: this.ca }
  }

  selfSigned(name: string, kind: readonly string[] = ['-newkey', 'rsa:2048']): Pair {
    const [cert, key] = [this.file(`${name}.pem`), this.file(`${name}.key`)]
    const names = ['-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
    this.#openssl('req', '-x509', ...kind, '-nodes', '-keyout', key, '-out', cert, '-days', '30', '-subj', `/CN=${name}`, ...names)
    return { cert, key, ca: cert }
  }

  /** Puts a pair in the place of another, as a renewal does. */
  replace(place: Pair, by: Pair): void {
    for (const part of ['cert', 'key'] as const) {
      fs.copyFileSync(by[part], `${place[part]}.new`)
      fs.renameSync(`${place[part]}.new`, place[part])
    }
  }

  remove(): void {
    fs.rmSync(this.dir, { recursive: true, force: true })
  }

  #past(request: string, cert: string, extension: string, from: string, until: string): void {
    fs.writeFileSync(this.file('index.txt'), '')
    fs.writeFileSync(
      this.file('ca.cnf'),
      `[ca]\ndefault_ca=c\n[c]\ndatabase=${this.file('index.txt')}\nnew_certs_dir=${this.dir}\nrand_serial=yes\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n`,
    )
    const keys = ['-cert', this.ca, '-keyfile', this.file('ca.key'), '-extfile', extension]
    this.#openssl(
      'ca',
      '-batch',
      '-config',
      this.file('ca.cnf'),
      ...keys,
      '-in',
      request,
      '-out',
      cert,
      '-startdate',
      `${from}Z`,
      '-enddate',
      `${until}Z`,
    )
  }

  #newKey(name: string): string[] {
    return ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', this.file(name)]
  }

  #openssl(...args: readonly string[]): void {
    execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  }
}
