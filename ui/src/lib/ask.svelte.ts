// One question to the server, asked in place: its answer or failure is shown where it was asked.
import { asProblem } from './api'
import type { Problem } from './types'

export class Ask<T> {
  running = $state(false)
  failure = $state.raw<Problem | null>(null)
  answer = $state.raw<T | null>(null)
  #open: AbortController | null = null

  /** Asks; an older question that is still open is taken back. Returns the answer, or null without one. */
  async put(question: (signal: AbortSignal) => Promise<T>): Promise<T | null> {
    this.forget()
    const mine = (this.#open = new AbortController())
    this.running = true
    try {
      const answer = await question(mine.signal)
      if (mine.signal.aborted) return null
      return (this.answer = answer)
    } catch (error) {
      if (!mine.signal.aborted) this.failure = asProblem(error)
      return null
    } finally {
      if (this.#open === mine) this.running = false
    }
  }

  /** Takes the question back: nobody waits for it any more, and the server ends it. */
  stop(): void {
    this.#open?.abort()
    this.running = false
  }

  forget(): void {
    this.stop()
    this.failure = null
    this.answer = null
  }
}
