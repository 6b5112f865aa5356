import { describe, expect, it } from 'vitest'
import { asProblem, lines, RequestFailed } from '../src/lib/api'

function pieces(...texts: string[]): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  return new ReadableStream({
    start(controller) {
      for (const text of texts) controller.enqueue(encoder.encode(text))
      controller.close()
    },
  })
}

async function all(stream: ReadableStream<Uint8Array>): Promise<unknown[]> {
  const found: unknown[] = []
  for await (const line of lines(stream)) found.push(line)
  return found
}

describe('JSON lines', () => {
  it('are the same however the network cuts them', async () => {
    expect(await all(pieces('{"a":', '1}\n{"b"', ':2}\n', '\n'))).toEqual([{ a: 1 }, { b: 2 }])
  })

  it('survive a cut inside a character', async () => {
    const whole = new TextEncoder().encode('{"a":"ä"}\n')
    const cut = whole.indexOf(0xc3) + 1
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(whole.slice(0, cut))
        controller.enqueue(whole.slice(cut))
        controller.close()
      },
    })
    expect(await all(stream)).toEqual([{ a: 'ä' }])
  })

  it('leave out a last line that was never finished', async () => {
    expect(await all(pieces('{"a":1}\n{"b":'))).toEqual([{ a: 1 }])
  })
})

describe('failures', () => {
  it('keep the server’s own words', () => {
    const problem = { code: 'disk-full', message: 'Full.', remedy: 'Free some.', action: null }
    expect(asProblem(new RequestFailed(problem, 507))).toEqual(problem)
  })

  it('of the page itself have a code and a remedy too', () => {
    expect(asProblem(new Error('Oops'))).toMatchObject({ code: 'page-error', message: 'Oops' })
  })
})
