import type { Session } from './session.ts'

/** Sessions by the second at which something of them is due. */
export class Deadlines {
  readonly #seconds = new Map<number, Set<Session>>()
  #first = Number.POSITIVE_INFINITY

  /** In place of what was armed before; Infinity: nothing is due. */
  arm(session: Session, dueUs: number): void {
    this.disarm(session)
    if (!Number.isFinite(dueUs)) return
    const second = Math.max(1, Math.ceil(dueUs / 1e6))
    session.dueS = second
    this.#first = Math.min(this.#first, second)
    const there = this.#seconds.get(second)
    if (there === undefined) this.#seconds.set(second, new Set([session]))
    else there.add(session)
  }

  disarm(session: Session): void {
    if (session.dueS === 0) return
    const there = this.#seconds.get(session.dueS)
    there?.delete(session)
    if (there?.size === 0) this.#seconds.delete(session.dueS)
    session.dueS = 0
  }

  /** Those that are due, disarmed. */
  due(nowUs: number): Session[] {
    const now = Math.floor(nowUs / 1e6)
    if (this.#first > now) return []
    const due: Session[] = []
    this.#first = Number.POSITIVE_INFINITY
    for (const [second, sessions] of this.#seconds) {
      if (second > now) {
        this.#first = Math.min(this.#first, second)
        continue
      }
      this.#seconds.delete(second)
      for (const session of sessions) {
        session.dueS = 0
        due.push(session)
      }
    }
    return due
  }
}
