import type { RoleName } from '../core/config-engines.ts'

/** Ports that the seeds print, and which of our roles answers what they ask there (S3's services; 8000 is S0's and S4's). */
const ports: readonly (readonly [port: number, role: RoleName | undefined])[] = [
  [8000, 'api'],
  [8001, 'ingest'],
  [8002, 'api'],
  [8003, 'store'],
  [8004, undefined],
]

/** A process with all roles has all of them; one with some has those that its service has in the seeds. */
export function compatPorts(roles: ReadonlySet<RoleName>): number[] {
  const all = new Set(ports.flatMap(([, role]) => role ?? [])).isSubsetOf(roles)
  return ports.filter(([, role]) => all || (role !== undefined && roles.has(role))).map(([port]) => port)
}
