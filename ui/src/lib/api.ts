// Every request to the loopback server: the token, plain failures, and streams of JSON lines.
import type { Problem } from './types'

const TOKEN = 'fettle-token'
let token = ''

/** Takes the token out of the address (or this tab's memory after a reload) and hides it; true if it is new. */
export function takeToken(): boolean {
  const found = /(?:^#|&)token=([^&]+)/.exec(location.hash)
  if (found) {
    sessionStorage.setItem(TOKEN, decodeURIComponent(found[1]!))
    history.replaceState(null, '', location.pathname + location.search)
  }
  token = sessionStorage.getItem(TOKEN) ?? ''
  return found !== null
}

/** A failure that the user can read; `status` is 0 when the server could not be reached. */
export class RequestFailed extends Error {
  constructor(
    readonly problem: Problem,
    readonly status: number,
  ) {
    super(problem.message)
  }
}

const unreachable: Problem = {
  code: 'server-unreachable',
  message: 'Fettle does not answer.',
  remedy: 'Start Fettle again and open the address that it prints.',
  action: null,
}

async function problemOf(response: Response): Promise<Problem> {
  try {
    const body = (await response.json()) as Partial<Problem>
    if (body.code && body.message) return { action: null, remedy: '', ...body } as Problem
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
  }
  return {
    code: `http-${response.status}`,
    message: `Fettle answered with status ${response.status} and no explanation.`,
    remedy: 'Look at the terminal in which Fettle runs, then reload this page.',
    action: null,
  }
}

async function send(path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { 'X-Fettle-Token': token }
  if (body !== undefined) headers['Content-Type'] = 'application/json'
  const method = body === undefined ? 'GET' : 'POST'
  let response: Response
  try {
    response = await fetch(path, { method, headers, body: JSON.stringify(body), signal, cache: 'no-store' })
  } catch (error) {
    if (signal?.aborted) throw error
    throw new RequestFailed(unreachable, 0)
  }
  if (!response.ok) throw new RequestFailed(await problemOf(response), response.status)
  return response
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await send(path, undefined, signal)).json() as Promise<T>
}

export async function post<T>(path: string, body: unknown = {}, signal?: AbortSignal): Promise<T> {
  return (await send(path, body, signal)).json() as Promise<T>
}

/** The objects of a streamed answer, one a line, as they arrive. */
export async function* stream<T>(path: string, signal: AbortSignal, body?: unknown): AsyncGenerator<T> {
  const response = await send(path, body, signal)
  yield* lines<T>(response.body!)
}

/** Parses JSON lines however the network cuts them; an unfinished last line is dropped. */
export async function* lines<T>(bytes: ReadableStream<Uint8Array>): AsyncGenerator<T> {
  const reader = bytes.getReader()
  const decoder = new TextDecoder()
  let rest = ''
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      rest += decoder.decode(value, { stream: true })
      const parts = rest.split('\n')
      rest = parts.pop()!
      for (const part of parts) if (part.trim()) yield JSON.parse(part) as T
    }
  } finally {
    reader.cancel().catch(() => undefined) // the other side may be gone already
  }
}

/** Any thrown thing as a problem, so that one component can show it. */
export function asProblem(error: unknown): Problem {
  if (error instanceof RequestFailed) return error.problem
  return {
    code: 'page-error',
    message: error instanceof Error ? error.message : String(error),
    remedy: 'Reload the page. What runs goes on without it.',
    action: null,
  }
}
