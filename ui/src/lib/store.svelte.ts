// What the page knows: a projection of the server's snapshot and the events after it, nothing else.
import { asProblem, get, RequestFailed, stream } from './api'
import type { Curve, Environment, Operation, Point, Problem, Snapshot, StreamEvent } from './types'

export type Connection = 'connecting' | 'live' | 'broken' | 'refused'

/** The server pings every ten seconds; silence for three of those means that the connection is dead. */
const SILENCE_MS = 30_000
const LONGEST_WAIT_MS = 10_000

export class Store {
  snapshot = $state.raw<Snapshot | null>(null)
  environment = $state.raw<Environment | null>(null)
  operations = $state.raw<Operation[]>([])
  curves = $state.raw<Record<string, Point[]>>({})
  connection = $state<Connection>('connecting')
  /** Why the server refuses this page; only with `connection === 'refused'`. */
  refusal = $state.raw<Problem | null>(null)
  /** When each operation's newest record came, to show seconds that go on between two records. */
  received: Record<string, number> = {}

  installs = $derived(this.operations.filter((operation) => operation.kind === 'install'))
  runs = $derived(this.operations.filter((operation) => operation.kind === 'train'))

  apply(event: StreamEvent): void {
    if (event.type === 'snapshot') this.#replace(event)
    else if (event.type === 'operation') this.#put(event.operation)
    else if (event.type === 'environment') this.environment = event.environment
    else if (event.type === 'points') this.#extend(event.operation, event.loss as Point[])
  }

  /** Shows a freshly started operation at once; a newer record from the stream is never overwritten. */
  adopt(operation: Operation): void {
    if (!this.operation(operation.id)) this.#put(operation)
  }

  operation(id: string): Operation | undefined {
    return this.operations.find((operation) => operation.id === id)
  }

  /** Fetches a run's whole curve; the points that arrive meanwhile are merged into it. */
  async openCurve(id: string): Promise<void> {
    this.curves = { ...this.curves, [id]: this.curves[id] ?? [] }
    const curve = await get<Curve>(`/api/runs/${encodeURIComponent(id)}/curve`)
    this.#extend(id, curve.loss as Point[])
  }

  /** Follows the event stream until `signal` aborts; after a break it waits a little longer each time. */
  async follow(signal: AbortSignal, pause: (ms: number) => Promise<void> = sleep): Promise<void> {
    let wait = 500
    while (!signal.aborted) {
      try {
        await this.#listen(signal, () => (wait = 500))
      } catch (error) {
        if (signal.aborted) return
        if (error instanceof RequestFailed && [401, 403].includes(error.status)) {
          this.refusal = asProblem(error)
          this.connection = 'refused'
          return
        }
      }
      if (signal.aborted) return
      this.connection = 'broken'
      await pause(wait)
      wait = Math.min(wait * 2, LONGEST_WAIT_MS)
    }
  }

  async #listen(signal: AbortSignal, alive: () => void): Promise<void> {
    const attempt = new AbortController()
    const give_up = () => attempt.abort()
    signal.addEventListener('abort', give_up)
    let timer = setTimeout(give_up, SILENCE_MS)
    try {
      for await (const event of stream<StreamEvent>('/api/events', attempt.signal)) {
        clearTimeout(timer)
        timer = setTimeout(give_up, SILENCE_MS)
        this.apply(event)
        this.connection = 'live'
        alive()
      }
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', give_up)
    }
  }

  #replace(snapshot: Snapshot): void {
    this.snapshot = snapshot
    this.environment = snapshot.environment
    this.operations = newestFirst(snapshot.operations)
    const now = Date.now()
    this.received = Object.fromEntries(snapshot.operations.map((operation) => [operation.id, now]))
    // Points sent while the stream was broken are missing: every open curve is fetched again.
    for (const id of Object.keys(this.curves)) void this.openCurve(id).catch(() => undefined)
  }

  #put(operation: Operation): void {
    this.received[operation.id] = Date.now()
    const others = this.operations.filter((known) => known.id !== operation.id)
    this.operations = newestFirst([...others, operation])
  }

  #extend(id: string, points: Point[]): void {
    const known = this.curves[id]
    if (!known) return // nobody looks at this run; its curve is fetched whole when somebody does
    this.curves = { ...this.curves, [id]: merge(known, points) }
  }
}

/** Two pieces of a curve as one, in the order of steps; the later piece wins where both know a step. */
export function merge(known: Point[], more: Point[]): Point[] {
  const last = known.at(-1)
  if (!last || (more[0] && more[0][0] > last[0])) return [...known, ...more]
  const steps = new Map<number, number>([...known, ...more])
  return [...steps].sort((a, b) => a[0] - b[0])
}

function newestFirst(operations: Operation[]): Operation[] {
  return [...operations].sort((a, b) => b.created - a.created)
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

export const store = new Store()
