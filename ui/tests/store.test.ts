import { afterEach, describe, expect, it, vi } from 'vitest'
import { merge, Store } from '../src/lib/store.svelte'
import type { StreamEvent } from '../src/lib/types'
import { environment, operation, snapshot } from './records'

afterEach(() => vi.unstubAllGlobals())

function streamOf(...events: StreamEvent[]): Response {
  return new Response(events.map((event) => JSON.stringify(event) + '\n').join(''))
}

/** Answers each request for the event stream with the next response, and every curve with `curve`. */
function server(responses: Response[], curve: [number, number][] = []) {
  const fetch = vi.fn(async (path: string) => {
    if (path.endsWith('/curve')) return Response.json({ loss: curve })
    const next = responses.shift()
    if (!next) throw new TypeError('refused')
    return next
  })
  vi.stubGlobal('fetch', fetch)
  return fetch
}

/** Follows the stream until the store has waited `pauses` times. */
async function follow(store: Store, pauses: number): Promise<number[]> {
  const leave = new AbortController()
  const waits: number[] = []
  await store.follow(leave.signal, async (ms) => {
    waits.push(ms)
    if (waits.length === pauses) leave.abort()
  })
  return waits
}

describe('events after the snapshot', () => {
  it('replaces the operation with the same id and keeps the newest first', () => {
    const store = new Store()
    store.apply(snapshot([operation('a', { created: 1 }), operation('b', { created: 2 })]))
    store.apply({ type: 'operation', operation: operation('a', { created: 1, state: 'done' }) })
    expect(store.operations.map((known) => [known.id, known.state])).toEqual([['b', 'running'], ['a', 'done']])
  })

  it('adds an operation that the snapshot did not have', () => {
    const store = new Store()
    store.apply(snapshot())
    store.apply({ type: 'operation', operation: operation('new', { kind: 'install' }) })
    expect(store.installs.map((known) => known.id)).toEqual(['new'])
    expect(store.runs).toEqual([])
  })

  it('replaces the environment whole', () => {
    const store = new Store()
    store.apply(snapshot())
    store.apply({ type: 'environment', environment: { ...environment, active: 'g2' } })
    expect(store.environment?.active).toBe('g2')
  })

  it('does not let the answer to a request overwrite a newer record from the stream', () => {
    const store = new Store()
    store.apply(snapshot([operation('a', { state: 'done' })]))
    store.adopt(operation('a', { state: 'starting' }))
    expect(store.operation('a')?.state).toBe('done')
  })

  it('forgets what a newer snapshot no longer has', () => {
    const store = new Store()
    store.apply(snapshot([operation('a')]))
    store.apply(snapshot([operation('b')]))
    expect(store.operation('a')).toBeUndefined()
  })
})

describe('curves', () => {
  it('ignores points of a run that nobody looks at', () => {
    const store = new Store()
    store.apply({ type: 'points', operation: 'unknown', loss: [[1, 2]] })
    expect(store.curves).toEqual({})
  })

  it('extends an open curve', async () => {
    server([], [[1, 3], [2, 2]])
    const store = new Store()
    await store.openCurve('a')
    store.apply({ type: 'points', operation: 'a', loss: [[3, 1]] })
    expect(store.curves['a']).toEqual([[1, 3], [2, 2], [3, 1]])
  })

  it('keeps points that arrive while the curve is being fetched', async () => {
    server([], [[1, 3]])
    const store = new Store()
    const opening = store.openCurve('a')
    store.apply({ type: 'points', operation: 'a', loss: [[2, 2]] })
    await opening
    expect(store.curves['a']).toEqual([[1, 3], [2, 2]])
  })

  it('has each step once, in order, wherever two pieces overlap', () => {
    expect(merge([[1, 3], [2, 2]], [[2, 2], [3, 1]])).toEqual([[1, 3], [2, 2], [3, 1]])
    expect(merge([[5, 1]], [[1, 3]])).toEqual([[1, 3], [5, 1]])
    expect(merge([], [])).toEqual([])
  })
})

describe('the connection', () => {
  it('reconnects after a break and is healed by the next snapshot', async () => {
    server([streamOf(snapshot([operation('a')])), streamOf(snapshot([operation('a', { state: 'done' })]))])
    const store = new Store()
    await follow(store, 2)
    expect(store.operation('a')?.state).toBe('done')
  })

  it('fetches an open curve again after a break', async () => {
    server([streamOf(snapshot([operation('a')]))], [[1, 3], [2, 2]])
    const store = new Store()
    store.curves = { a: [[1, 3]] }
    await follow(store, 1)
    await vi.waitFor(() => expect(store.curves['a']).toHaveLength(2))
  })

  it('waits longer after each failure, and starts over once a stream has come through', async () => {
    server([])
    expect(await follow(new Store(), 6)).toEqual([500, 1000, 2000, 4000, 8000, 10000])
    server([streamOf(snapshot()), streamOf(snapshot())])
    expect(await follow(new Store(), 3)).toEqual([500, 500, 1000])
  })

  it('says that it is broken', async () => {
    server([])
    const store = new Store()
    await follow(store, 1)
    expect(store.connection).toBe('broken')
  })

  it('stops asking when the server refuses the token, and shows why', async () => {
    const problem = { code: 'token-wrong', message: 'This page has no key.', remedy: 'Open the printed address.', action: null }
    const fetch = server([Response.json(problem, { status: 401 })])
    const store = new Store()
    await follow(store, 9)
    expect(store.connection).toBe('refused')
    expect(store.refusal).toEqual(problem)
    expect(fetch).toHaveBeenCalledTimes(1)
  })
})
