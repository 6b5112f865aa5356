/** What going from one set of packages to another would change: "numpy 1.26.4 → 1.26.3" first, then what comes and goes. */
export function differences(from: Record<string, string>, to: Record<string, string>): string[] {
  const names = (record: Record<string, string>) => Object.keys(record).sort()
  const changed = names(from).filter((name) => name in to && from[name] !== to[name])
  const added = names(to).filter((name) => !(name in from))
  const removed = names(from).filter((name) => !(name in to))
  return [
    ...changed.map((name) => `${name} ${from[name]} → ${to[name]}`),
    ...added.map((name) => `with ${name}`),
    ...removed.map((name) => `without ${name}`),
  ]
}
