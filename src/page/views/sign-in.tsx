import { useId } from 'react'
import { setToken } from '../api.ts'

/** Where tokens are asked for. It stays in this tab. */
export function SignIn({ reason }: { readonly reason: string }) {
  const field = useId()
  return (
    <main className="sign-in">
      <h1>Kymo</h1>
      <p role="alert">{reason}</p>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          const token = new FormData(event.currentTarget).get('token')
          if (typeof token === 'string' && token.trim() !== '') setToken(token.trim())
        }}
      >
        <label htmlFor={field}>Token</label>
        <div className="row">
          <input id={field} name="token" type="password" autoComplete="off" spellCheck={false} required />
          <button type="submit" className="main">
            Sign in
          </button>
        </div>
      </form>
      <p className="soft">
        Whoever runs the server makes one: <code>kymo tokens create --name me --scopes read,admin</code>. To look around, <code>read</code> is enough;
        to replay dead letters, <code>admin</code> is needed. It is kept in this tab until you close it.
      </p>
    </main>
  )
}
