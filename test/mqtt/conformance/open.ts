import type { Version } from './scan.ts'

/**
 * Statements that Kymo does not claim: not done yet, or not shown by a test that cites them. Who writes the test takes the statement away here; a
 * statement that is not here and has no test fails statements.test.ts.
 */
const openIds: Readonly<Record<Version, string>> = {
  '3.1.1': '',
  '5.0': '',
}

/** As `version id`. */
export const open: ReadonlySet<string> = new Set(
  Object.entries(openIds).flatMap(([version, ids]) =>
    ids
      .split(' ')
      .filter((id) => id !== '')
      .map((id) => `${version} ${id}`),
  ),
)
