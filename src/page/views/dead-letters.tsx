import { useState } from 'react'
import { errorGuide } from 'virtual:error-guide'
import type { DeadLetter, DeadLetterItem } from '../api.ts'
import { bytes, figure, hexDump, visible } from '../format.ts'
import { useAccess, useAsk } from '../hooks.ts'
import { Ago, Choice, Empty, Loading, Name, PageHead, Problem, Prose, Sure } from '../parts/common.tsx'
import { useServer } from '../server.tsx'

type Status = DeadLetterItem['status']

const pageRows = 25
/** Of an original that is no text. */
const hexBytesMax = 2_048
const textCharsMax = 65_536

interface Notice {
  readonly bad: boolean
  readonly text: string
}

function outcome(done: number, failed: number, results: readonly { readonly ok: boolean; readonly detail?: string }[], did: string): Notice {
  const why = results.find(({ ok }) => !ok)?.detail
  if (failed === 0) return { bad: false, text: done === 1 ? `The message was ${did}.` : `${figure(done)} messages were ${did}.` }
  return { bad: true, text: `${figure(done)} ${did}, ${figure(failed)} not: ${why ?? 'the server did not say why'}` }
}

export function DeadLettersView() {
  const { api } = useAccess()
  const { data: server, again: askServer } = useServer()
  const [status, setStatus] = useState<Status>('waiting')
  const [cursors, setCursors] = useState<readonly (string | undefined)[]>([undefined])
  const [notice, setNotice] = useState<Notice>()
  const [failed, setFailed] = useState<unknown>()
  const [busy, setBusy] = useState(false)
  const cursor = cursors.at(-1)
  const list = useAsk(
    `dead letters ${status} ${cursor ?? ''}`,
    (api, signal) => api.deadLetters.list({ status, limit: pageRows, cursor }, { signal }),
    { everyMs: 4_000 },
  )
  const settle = (work: () => Promise<Notice>): void => {
    const run = async (): Promise<void> => {
      setBusy(true)
      setNotice(undefined)
      setFailed(undefined)
      try {
        setNotice(await work())
      } catch (error) {
        setFailed(error)
      }
      setBusy(false)
      list.again()
      askServer()
    }
    void run()
  }
  const replay = (ids: readonly string[] | undefined): void =>
    settle(async () => {
      const { replayed, failed: not, results } = await api.deadLetters.replayMany({ body: ids === undefined ? { all: true } : { ids } })
      return outcome(replayed, not, results, 'sent again and stored')
    })
  const dismiss = (ids: readonly string[] | undefined): void =>
    settle(async () => {
      const { dismissed, failed: not, results } = await api.deadLetters.dismissMany({ body: ids === undefined ? { all: true } : { ids } })
      return outcome(dismissed, not, results, 'dismissed')
    })
  const waiting = server?.dead_letters_waiting ?? 0
  const items = list.data?.items
  const next = list.data?.next_cursor ?? undefined
  return (
    <>
      <PageHead title="Dead letters">
        <span className="soft">
          {figure(waiting)} {waiting === 1 ? 'waits' : 'wait'}
        </span>
      </PageHead>
      <p className="lead">
        Messages that could not be used, with their original bytes. After a fix they can be sent again. They are kept for 30 days, and up to 64 MiB of
        them.
      </p>
      <div className="toolbar">
        <Choice
          label="Which"
          options={[
            ['waiting', 'Waiting'],
            ['replayed', 'Replayed'],
            ['dismissed', 'Dismissed'],
          ]}
          value={status}
          onChange={(value) => {
            setStatus(value)
            setCursors([undefined])
          }}
        />
        {status === 'waiting' && waiting > 1 && (
          <span className="row end">
            <Sure ask={`Replay all ${figure(waiting)}?`} disabled={busy} onSure={() => replay(undefined)}>
              Replay all
            </Sure>
            <Sure ask={`Dismiss all ${figure(waiting)}?`} disabled={busy} onSure={() => dismiss(undefined)}>
              Dismiss all
            </Sure>
          </span>
        )}
      </div>
      {notice !== undefined && (
        <div className={notice.bad ? 'problem' : 'notice'} role="status">
          {visible(notice.text)}
        </div>
      )}
      {failed !== undefined && <Problem error={failed} />}
      {list.error !== undefined && <Problem error={list.error} again={list.again} />}
      {items === undefined && list.error === undefined && <Loading />}
      {items?.length === 0 && <Nothing status={status} />}
      {items !== undefined && items.length > 0 && (
        <ul className="letters">
          {items.map((letter) => (
            <Letter key={letter.id} letter={letter} busy={busy} onReplay={() => replay([letter.id])} onDismiss={() => dismiss([letter.id])} />
          ))}
        </ul>
      )}
      {(cursors.length > 1 || next !== undefined) && (
        <nav className="pages" aria-label="Pages">
          <button type="button" disabled={cursors.length < 2} onClick={() => setCursors(cursors.slice(0, -1))}>
            Newer
          </button>
          <span className="soft">Page {cursors.length}</span>
          <button type="button" disabled={next === undefined} onClick={() => setCursors([...cursors, next])}>
            Older
          </button>
        </nav>
      )}
    </>
  )
}

function Nothing({ status }: { readonly status: Status }) {
  if (status === 'waiting') return <Empty title="Nothing waits for you">Every message that arrived could be used, or was settled.</Empty>
  return <Empty title={`No letter was ${status}`}>What is settled stays here until it is 30 days old.</Empty>
}

function Letter({
  letter,
  busy,
  onReplay,
  onDismiss,
}: {
  readonly letter: DeadLetterItem
  readonly busy: boolean
  readonly onReplay: () => void
  readonly onDismiss: () => void
}) {
  const [open, setOpen] = useState(false)
  const { code, detail, errors, transport, client, topic, truncated, bytes_total: size, time, status } = letter
  const guide = errorGuide[code]
  // What is wrong with the whole is in the line above.
  const fields = errors.filter(({ pointer = '' }) => pointer !== '')
  return (
    <li className="letter">
      <details onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary>
          <span className="what">
            <code className="code">{code}</code>
            <span>{visible(detail)}</span>
          </span>
          <span className="soft where">
            <Ago at={time} />
            <span className="sep">·</span>
            {transport} {client !== '' && <Name of={client} />}
            {topic !== '' && (
              <>
                <span className="sep">·</span>
                <Name of={topic} />
              </>
            )}
            <span className="sep">·</span>
            {bytes(size)}
          </span>
        </summary>
        <div className="inside">
          {fields.length > 0 && (
            <ul className="fields">
              {fields.map(({ pointer = '', detail: what = '' }) => (
                <li key={`${pointer} ${what}`}>
                  <code>{visible(pointer)}</code> {visible(what)}
                </li>
              ))}
            </ul>
          )}
          {guide !== undefined && (
            <dl className="guide">
              <dt>Why</dt>
              <dd>
                <Prose text={guide.cause} />
              </dd>
              <dt>Fix</dt>
              <dd>
                <Prose text={guide.fix} /> <a href={`/docs#error-${code}`}>{guide.id}</a>
              </dd>
            </dl>
          )}
          {open && <Original id={letter.id} />}
          {truncated && <p className="soft">Only its first bytes were kept: it can be read, not sent again.</p>}
        </div>
      </details>
      {status === 'waiting' && (
        <div className="row">
          <button type="button" disabled={busy || truncated} onClick={onReplay}>
            Replay
          </button>
          <button type="button" disabled={busy} onClick={onDismiss}>
            Dismiss
          </button>
        </div>
      )}
    </li>
  )
}

function bodyText({ body, body_encoding: encoding }: DeadLetter): { readonly kind: string; readonly text: string } {
  if (encoding === 'utf8') {
    const shown = visible(body.slice(0, textCharsMax))
    return { kind: 'text', text: body.length > textCharsMax ? `${shown}\n… ${figure(body.length - textCharsMax)} characters more` : shown }
  }
  return {
    kind: 'hex',
    text: hexDump(
      Uint8Array.from(atob(body), (char) => char.charCodeAt(0)),
      hexBytesMax,
    ),
  }
}

/** The bytes as they came. React writes them as text, never as markup; what cannot be seen is written as its code. */
function Original({ id }: { readonly id: string }) {
  const { data, error, again } = useAsk(`dead letter ${id}`, (api, signal) => api.deadLetters.get({ id }, { signal }))
  if (data === undefined) return error === undefined ? <Loading /> : <Problem error={error} again={again} />
  const { kind, text } = bodyText(data)
  return (
    <figure className="original">
      <figcaption className="soft">
        Original, {kind === 'hex' ? 'not text: as hexadecimal' : (data.content_type ?? 'as text')}
        {data.topic_device !== undefined && (
          <>
            {' '}
            of the device <Name of={data.topic_device} />
          </>
        )}
      </figcaption>
      <pre className={kind} tabIndex={0}>
        {text === '' ? '(empty)' : text}
      </pre>
    </figure>
  )
}
