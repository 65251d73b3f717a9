import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { killLeftovers } from '../tools/process-tree.ts'

/** Where this process records its shells. Each process has a folder of its own: two may share a state directory for a while. */
export const shellDir = (stateDir: string): string => join(stateDir, 'shells', String(process.pid))

/** Ends the shells that a former process of this agent left behind, when it was killed. */
export async function endLeftoverShells(stateDir: string): Promise<void> {
  const folder = join(stateDir, 'shells')
  for (const pid of await readdir(folder).catch(() => [])) {
    if (pid !== String(process.pid) && isAlive(Number(pid))) continue
    await killLeftovers(join(folder, pid))
    await rm(join(folder, pid), { recursive: true, force: true })
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    // No such process, or another user's, which is not ours either.
    return false
  }
}
