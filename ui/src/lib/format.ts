// Figures as a person reads them. Sizes are decimal, as disks and download pages count.

import type { Measure } from './types'

const UNITS = ['bytes', 'kB', 'MB', 'GB', 'TB']

export function bytes(count: number): string {
  let value = count
  let unit = 0
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000
    unit += 1
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1
  return `${value.toFixed(digits)} ${UNITS[unit]}`
}

/** "0.4 s", "12 s", "3 min 05 s", "2 h 07 min". */
export function seconds(value: number): string {
  if (value < 9.95) return `${Math.max(0, value).toFixed(1)} s`
  const whole = Math.round(value)
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`
  const minutes = Math.round(whole / 60)
  return `${Math.floor(minutes / 60)} h ${pad(minutes % 60)} min`
}

/** A moment (seconds since 1970) as "14:05" today, otherwise with its date. */
export function moment(time: number, now: Date = new Date()): string {
  const date = new Date(time * 1000)
  const clock = `${pad(date.getHours())}:${pad(date.getMinutes())}`
  if (date.toDateString() === now.toDateString()) return `today, ${clock}`
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}, ${clock}`
}

export function loss(value: number | null | undefined): string {
  if (value === null || value === undefined) return '–'
  return value >= 100 || (value !== 0 && Math.abs(value) < 0.001) ? value.toExponential(2) : value.toFixed(3)
}

export function share(value: number | null | undefined): string {
  if (value === null || value === undefined) return '–'
  const percent = value * 100
  // 99.96 % must not read as 100 %: a perfect score is claimed only where it is one.
  const shown = percent < 100 && percent > 99.9 ? 99.9 : percent
  return `${Number(shown.toFixed(1))} %`
}

/** A measure's value and its range, as ["95 %", "89 to 98 %"]; a difference of shares is told in points. */
export function ranged(measure: Measure['name'], interval: Measure['base'], difference = false): [string, string] {
  const plain = measure === 'loss' || measure === 'perplexity'
  const unit = plain ? '' : difference ? ' points' : ' %'
  const text = (value: number | null) => {
    if (value === null) return '–'
    const size = plain ? figure(Math.abs(value)) : share(Math.abs(value)).replace(' %', '')
    return (value < 0 ? '−' : difference && value > 0 ? '+' : '') + size
  }
  if (interval.value === null) return ['–', '']
  return [text(interval.value) + unit, `${text(interval.low)} to ${text(interval.high)}${unit}`]
}

function figure(value: number): string {
  return value >= 100 ? count(value) : loss(value)
}

export function count(value: number): string {
  return Math.round(value).toLocaleString('en-US')
}

export function rate(value: number | null | undefined): string {
  return value === null || value === undefined ? '–' : `${count(value)} tokens/s`
}

function pad(value: number): string {
  return String(value).padStart(2, '0')
}
