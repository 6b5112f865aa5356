// A second hand for elapsed times: what runs gets older even when no record arrives.
import { store } from './store.svelte'
import type { Operation } from './types'

class Clock {
  now = $state(Date.now())

  constructor() {
    setInterval(() => (this.now = Date.now()), 1000)
  }
}

const clock = new Clock()

export function isLive(operation: Operation): boolean {
  return operation.state === 'starting' || operation.state === 'running'
}

/** Seconds since the operation began: its newest record's, plus the time since that record came. */
export function elapsed(operation: Operation): number {
  const received = store.received[operation.id]
  if (!isLive(operation) || received === undefined) return operation.seconds
  return operation.seconds + Math.max(0, clock.now - received) / 1000
}
