/** A running mean that begins at the first value; `weight` is how much of the past is kept. */
export function smooth(values: number[], weight = 0.8): number[] {
  let mean = 0
  let total = 0
  return values.map((value) => {
    // Dividing by the weights so far takes away the pull towards zero of the first values.
    mean = mean * weight + value * (1 - weight)
    total = total * weight + (1 - weight)
    return mean / total
  })
}
