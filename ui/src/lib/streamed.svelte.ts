// One streamed answer at a time: an older one that is still coming is taken back.
import { asProblem, stream } from './api'
import type { Problem } from './types'

interface Line {
  type: string
  problem?: Problem | null
}

export class Streamed<T extends Line> {
  running = $state(false)
  problem = $state.raw<Problem | null>(null)
  #open: AbortController | null = null

  /** Asks, and hands over each line as it arrives; a failure becomes `problem`. */
  protected async follow(path: string, question: unknown, take: (line: T) => void): Promise<void> {
    this.#open?.abort()
    const mine = (this.#open = new AbortController())
    this.running = true
    this.problem = null
    let last = ''
    try {
      for await (const line of stream<T>(path, mine.signal, question)) {
        if (mine.signal.aborted) return
        last = line.type
        if (last === 'failed') this.problem = line.problem ?? null
        else take(line)
      }
      if (last !== 'done' && last !== 'failed') throw new Error('The answer broke off.')
    } catch (error) {
      if (!mine.signal.aborted) this.problem = asProblem(error)
    } finally {
      if (this.#open === mine) this.running = false
    }
  }

  /** Takes the question back; true where it was still open. */
  stop(): boolean {
    const open = this.running
    this.#open?.abort()
    this.running = false
    return open
  }
}
