// The newest check of the active environment; it outlives a visit to another page.
import { asProblem, post } from './api'
import type { Checked, Problem } from './types'

export class Checkup {
  running = $state(false)
  failure = $state.raw<Problem | null>(null)
  result = $state.raw<Checked | null>(null)

  async start(): Promise<void> {
    if (this.running) return
    this.running = true
    this.forget()
    try {
      this.result = await post<Checked>('/api/environment/check', { generation: null, full: true })
    } catch (error) {
      this.failure = asProblem(error)
    } finally {
      this.running = false
    }
  }

  /** What was found says nothing about any other environment than the one that was checked. */
  of(generation: string | null): Checked | null {
    return this.result?.generation === generation ? this.result : null
  }

  forget(): void {
    this.failure = null
    this.result = null
  }
}

/** Failing checks first; within each half the order in which they were made. */
export function failingFirst(checks: Checked['checks']): Checked['checks'] {
  return [...checks.filter((check) => !check.ok), ...checks.filter((check) => check.ok)]
}

export const checkup = new Checkup()
