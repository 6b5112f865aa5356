import { describe, expect, it } from 'vitest'
import { bytes, loss, moment, ranged, rate, seconds, share } from '../src/lib/format'
import { differences } from '../src/lib/packages'
import { smooth } from '../src/lib/smooth'

describe('figures', () => {
  it('gives sizes in decimal units with at most one digit', () => {
    expect([0, 999, 1000, 1536, 99_949, 212_000_000, 2.5e9].map(bytes)).toEqual([
      '0 bytes', '999 bytes', '1.0 kB', '1.5 kB', '99.9 kB', '212 MB', '2.5 GB',
    ])
  })

  it('never shows a thousand of a unit where one of the next is meant', () => {
    expect(bytes(999_999)).toBe('1.0 MB')
  })

  it('gives times in the units a person would use', () => {
    expect([0, 0.42, 9.96, 59.6, 185, 7620].map(seconds)).toEqual(['0.0 s', '0.4 s', '10 s', '1 min 00 s', '3 min 05 s', '2 h 07 min'])
  })

  it('claims 100 % only for a perfect score', () => {
    expect([0, 0.955, 0.9996, 1].map(share)).toEqual(['0 %', '95.5 %', '99.9 %', '100 %'])
  })

  it('gives a measure its range, and a difference its sign and unit', () => {
    const interval = (value: number | null, low: number | null, high: number | null) => ({ value, low, high })
    expect(ranged('exact_match', interval(0.95, 0.888, 0.978))).toEqual(['95 %', '88.8 to 97.8 %'])
    expect(ranged('token_f1', interval(0.5, -0.1, 0.6), true)).toEqual(['+50 points', '−10 to +60 points'])
    expect(ranged('perplexity', interval(-2797.806, -3066.9, -0.5), true)).toEqual(['−2,798', '−3,067 to −0.500'])
    expect(ranged('perplexity', interval(null, null, null))).toEqual(['–', ''])
    expect(ranged('perplexity', interval(5, 1, null))).toEqual(['5.000', '1.000 to –'])
  })

  it('shows a dash for what is not known', () => {
    expect([loss(null), share(undefined), rate(null)]).toEqual(['–', '–', '–'])
  })

  it('keeps the digits of very small and very large losses', () => {
    expect([loss(0), loss(0.00042), loss(1.23456), loss(1234)]).toEqual(['0.000', '4.20e-4', '1.235', '1.23e+3'])
  })

  it('names today, and gives other days their date', () => {
    const now = new Date(2026, 4, 3, 15, 0)
    expect(moment(new Date(2026, 4, 3, 9, 5).getTime() / 1000, now)).toBe('today, 09:05')
    expect(moment(new Date(2026, 4, 2, 9, 5).getTime() / 1000, now)).toBe('2026-05-02, 09:05')
  })
})

describe('the difference between two sets of packages', () => {
  it('names what changed before what came and went', () => {
    expect(differences({ a: '1', b: '2', aa: '3' }, { a: '1', b: '2.1', ab: '4' })).toEqual([
      'b 2 → 2.1', 'with ab', 'without aa',
    ])
  })
})

describe('the smoothed loss', () => {
  it('begins at the first value and stays between the extremes', () => {
    const values = smooth([4, 2, 3])
    expect(values[0]).toBeCloseTo(4)
    expect(Math.min(...values)).toBeGreaterThan(2)
  })

  it('leaves a constant as it is', () => {
    for (const value of smooth([2, 2, 2])) expect(value).toBeCloseTo(2)
  })
})
