// The conversation in this tab. Each prompt is answered on its own by base and tuned, so that they stay comparable.
import { asProblem, stream } from './api'
import type { Picture } from './pictures'
import type { ChatLine, ChatRequest, Problem } from './types'

export interface Exchange {
  prompt: string
  /** Small ones, to be shown; what was sent is not kept. */
  pictures?: string[]
  run: string
  base: string
  tuned: string
  state: 'answering' | 'done' | 'stopped' | 'failed'
  problem: Problem | null
}

const KEPT = 'fettle-chat'

class Chat {
  exchanges = $state<Exchange[]>(restore())
  temperature = $state(0)
  length = $state(128)
  answering = $derived(this.exchanges.at(-1)?.state === 'answering')
  #leave: AbortController | null = null

  async ask(run: string, prompt: string, pictures: Picture[] = []): Promise<void> {
    const shown = pictures.map((picture) => picture.small)
    this.exchanges.push({ prompt, pictures: shown, run, base: '', tuned: '', state: 'answering', problem: null })
    const exchange = this.exchanges.at(-1)!
    const leave = new AbortController()
    this.#leave = leave
    const request: ChatRequest = {
      run,
      messages: [{ role: 'user', content: prompt, pictures: pictures.map((picture) => picture.url) }],
      max_new_tokens: this.length,
      temperature: this.temperature,
    }
    try {
      for await (const line of stream<ChatLine>('/api/chat', leave.signal, request)) take(exchange, line)
      if (exchange.state === 'answering') fail(exchange, asProblem(new Error('The answer broke off.')))
    } catch (error) {
      if (leave.signal.aborted) exchange.state = 'stopped'
      else fail(exchange, asProblem(error))
    }
    this.#keep()
  }

  stop(): void {
    this.#leave?.abort()
  }

  clear(): void {
    this.stop()
    this.exchanges = []
    this.#keep()
  }

  #keep(): void {
    sessionStorage.setItem(KEPT, JSON.stringify(this.exchanges))
  }
}

/** Adds one streamed line to the exchange that it belongs to. */
export function take(exchange: Exchange, line: ChatLine): void {
  if (line.type === 'token' && line.side) exchange[line.side] += line.text
  else if (line.type === 'done') exchange.state = 'done'
  else if (line.type === 'failed') fail(exchange, line.problem ?? asProblem(new Error(line.text)))
}

function fail(exchange: Exchange, problem: Problem): void {
  exchange.state = 'failed'
  exchange.problem = problem
}

function restore(): Exchange[] {
  const kept = sessionStorage.getItem(KEPT)
  return kept ? (JSON.parse(kept) as Exchange[]) : []
}

export const chat = new Chat()
