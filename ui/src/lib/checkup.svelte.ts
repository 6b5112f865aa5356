// The newest check of the active environment; it outlives a visit to another page.
import { post } from './api'
import { Ask } from './ask.svelte'
import type { Checked } from './types'

export class Checkup extends Ask<Checked> {
  async start(): Promise<void> {
    if (this.running) return
    await this.put((signal) => post<Checked>('/api/environment/check', { generation: null, full: true }, signal))
  }

  /** What was found says nothing about any other environment than the one that was checked. */
  of(generation: string | null): Checked | null {
    return this.answer?.generation === generation ? this.answer : null
  }
}

/** Failing checks first; within each half the order in which they were made. */
export function failingFirst(checks: Checked['checks']): Checked['checks'] {
  return [...checks.filter((check) => !check.ok), ...checks.filter((check) => check.ok)]
}

export const checkup = new Checkup()
