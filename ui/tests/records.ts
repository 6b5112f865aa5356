// Records as the server sends them, small.
import type { Environment, Operation, Snapshot } from '../src/lib/types'

export const environment: Environment = {
  hardware: {
    system: 'Linux', machine: 'x86_64', cpu: 'A processor', cores: 2, memory_bytes: 8e9, disk_free_bytes: 5e10,
    accelerator: 'cpu', driver: null, gpus: [], notes: [],
  },
  torch: { build: 'cpu', reason: 'No GPU was found.', advice: [] },
  plan: [],
  accelerators: ['cpu'],
  active: null,
  previous: null,
  passed_over: [],
  generations: [],
  history: [],
  keep: null,
  problem: null,
}

export function operation(id: string, changes: Partial<Operation> = {}): Operation {
  return { id, kind: 'train', title: `Run ${id}`, state: 'running', created: 1, seconds: 0, problem: null, ...changes } as Operation
}

export function snapshot(operations: Operation[] = []): Snapshot {
  return { type: 'snapshot', version: '0', home: '/home', environment, operations, models: [], datasets: [] }
}
