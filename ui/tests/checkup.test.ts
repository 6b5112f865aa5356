import { afterEach, describe, expect, it, vi } from 'vitest'
import { Checkup, failingFirst } from '../src/lib/checkup.svelte'
import type { Checked } from '../src/lib/types'

afterEach(() => vi.unstubAllGlobals())

const sound: Checked = { generation: 'g1', sound: true, seconds: 5, checks: [], findings: [] }

function answers(response: Response) {
  const fetch = vi.fn(async () => response)
  vi.stubGlobal('fetch', fetch)
  return fetch
}

describe('a check', () => {
  it('speaks only of the environment that was checked', async () => {
    answers(Response.json(sound))
    const checkup = new Checkup()
    await checkup.start()
    expect(checkup.of('g1')).toEqual(sound)
    expect(checkup.of('g2')).toBeNull()
    expect(checkup.of(null)).toBeNull()
  })

  it('is not started a second time while it runs', async () => {
    const fetch = answers(Response.json(sound))
    const checkup = new Checkup()
    await Promise.all([checkup.start(), checkup.start()])
    expect(fetch).toHaveBeenCalledTimes(1)
    expect(checkup.running).toBe(false)
  })

  it('that could not be made is a problem in place of an older result', async () => {
    answers(Response.json(sound))
    const checkup = new Checkup()
    await checkup.start()
    const problem = { code: 'no-environment', message: 'None.', remedy: 'Install.', action: 'install' }
    answers(Response.json(problem, { status: 400 }))
    await checkup.start()
    expect(checkup.failure).toEqual(problem)
    expect(checkup.of('g1')).toBeNull()
  })
})

it('lists failing checks first and keeps the order otherwise', () => {
  const check = (name: string, ok: boolean) => ({ name, ok, evidence: '', remedy: null })
  const sorted = failingFirst([check('a', true), check('b', false), check('c', true), check('d', false)])
  expect(sorted.map((each) => each.name)).toEqual(['b', 'd', 'a', 'c'])
})
