/**
 * Whether a subscriber can take a message of a shared subscription now. `ready`: connected, and it would be sent at once. `busy`: connected, and
 * there is room in its queue. `away`: not connected, its session goes on, and there is room in its queue. `full`: connected or not, a message may
 * be lost there.
 */
export type Readiness = 'ready' | 'busy' | 'away' | 'full'

/** What a tree asks of its subscribers. It must be told when `connected` has changed. */
export interface Presence<S> {
  connected(subscriber: S): boolean
  readiness(subscriber: S): Readiness
}
