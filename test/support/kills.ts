import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'

export interface KillRound {
  readonly dir: string
  /** Of all kills. */
  readonly round: number
  readonly folder: number
  /** Kills that this folder has had before. */
  readonly inFolder: number
}

/**
 * Runs one round a kill. A folder lives through `perFolder` of them, then the next begins with a new one: what one holds stays of a size that can be
 * read as a whole after every kill, however many there are.
 */
export async function killsInFolders(
  o: { readonly kills: number; readonly perFolder: number; readonly name: string },
  run: (at: KillRound) => Promise<void>,
): Promise<void> {
  for (let folder = 0; folder * o.perFolder < o.kills; folder++) {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), o.name))
    try {
      for (let inFolder = 0; inFolder < o.perFolder && folder * o.perFolder + inFolder < o.kills; inFolder++)
        await run({ dir, round: folder * o.perFolder + inFolder, folder, inFolder })
    } finally {
      fs.rmSync(dir, { recursive: true, force: true })
    }
  }
}
