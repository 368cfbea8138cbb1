/** One event of a text/event-stream (HTML Living Standard, 9.2.6). */
export interface ServerEvent {
  readonly event: string
  readonly data: string
  readonly id: string
}

/** Cuts a stream into events as its chunks come. Comments (heartbeats) and events without data are swallowed. */
export class SseReader {
  #rest = ''
  #event = ''
  #data: string[] = []
  #id = ''

  push(chunk: string): ServerEvent[] {
    const events: ServerEvent[] = []
    const lines = (this.#rest + chunk).split(/\r\n|\n|\r(?!$)/)
    this.#rest = lines.pop() ?? ''
    for (const line of lines) {
      const event = this.#line(line)
      if (event !== undefined) events.push(event)
    }
    return events
  }

  #line(line: string): ServerEvent | undefined {
    if (line === '') {
      const event =
        this.#data.length === 0 ? undefined : { event: this.#event === '' ? 'message' : this.#event, data: this.#data.join('\n'), id: this.#id }
      this.#event = ''
      this.#data = []
      return event
    }
    const colon = line.indexOf(':')
    if (colon === 0) return undefined
    const field = colon < 0 ? line : line.slice(0, colon)
    const text = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1)
    if (field === 'event') this.#event = text
    else if (field === 'data') this.#data.push(text)
    else if (field === 'id' && !text.includes('\u0000')) this.#id = text
    return undefined
  }
}
