// How the page speaks of environments.
import type { Difference, Environment, Generation, HistoryRow } from './types'

export function nameOf(generation: Generation): string {
  return generation.name || generation.id
}

/** An environment within a sentence: its name in quotes; without one, or once it is gone, its id. */
export function said(environment: Environment, id: string): string {
  const name = environment.generations.find((generation) => generation.id === id)?.name
  return name ? `“${name}”` : id
}

/** Where a rollback leads and why there, in a sentence; "" where it leads nowhere. */
export function wayBack(environment: Environment): string {
  if (!environment.previous) return ''
  const target = said(environment, environment.previous)
  if (environment.passed_over.length === 0) return `Roll back leads to ${target}, which was active before this one.`
  const passed = environment.passed_over.map((id) => said(environment, id)).join(', ')
  return `Roll back leads to ${target}, the newest earlier one that is whole; ${passed} is passed over as damaged.`
}

/** One event of the history in words. */
export function told(row: HistoryRow, environment: Environment): string {
  const name = said(environment, row.generation)
  const before = row.before && row.before !== row.generation ? said(environment, row.before) : ''
  switch (row.action) {
    case 'install':
      return before ? `Installed ${name} beside ${before}` : `Installed ${name}, the first one`
    case 'repair':
      return `Built ${name} in place of ${before || 'a damaged one'}`
    case 'rollback':
      return before ? `Went back to ${name} from ${before}` : `Went back to ${name}`
    case 'activate':
      return `Switched to ${name}`
    case 'delete':
      return `Deleted ${name}`
    default:
      return `${row.action} ${name}`
  }
}

export interface Change {
  name: string
  kind: 'added' | 'removed' | 'changed'
  text: string
}

/** The packages that differ, one line each: changed ones first, for these say most. */
export function changes(found: Pick<Difference, 'added' | 'removed' | 'changed'> & Partial<Pick<Difference, 'python'>>): Change[] {
  const rows = (record: Record<string, string>, kind: 'added' | 'removed'): Change[] =>
    Object.entries(record).map(([name, version]) => ({ name, kind, text: version }))
  const changed = [...(found.python ? [found.python] : []), ...found.changed]
  return [
    ...changed.map((each): Change => ({ name: each.name, kind: 'changed', text: `${each.before} → ${each.after}` })),
    ...rows(found.added, 'added'),
    ...rows(found.removed, 'removed'),
  ]
}
