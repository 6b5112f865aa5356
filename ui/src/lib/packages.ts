/** What going from one set of packages to another would change, as "numpy 1.26.4 → 1.26.3". */
export function differences(from: Record<string, string>, to: Record<string, string>): string[] {
  const names = [...new Set([...Object.keys(from), ...Object.keys(to)])].sort()
  return names.filter((name) => from[name] !== to[name]).map((name) => `${name} ${from[name] ?? 'absent'} → ${to[name] ?? 'absent'}`)
}
