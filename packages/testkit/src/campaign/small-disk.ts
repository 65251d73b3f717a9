import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'

/** A directory on a disk of its own, small enough to be filled. */
export interface SmallDisk extends Disposable {
  readonly directory: string
  /** Takes every byte that is free. */
  fill(): void
  /** Gives them back. */
  free(): void
}

/** Mounts a disk of so many bytes in memory at `directory`. Undefined where this user may not mount. */
export function mountSmallDisk(directory: string, bytes: number): SmallDisk | undefined {
  mkdirSync(directory, { recursive: true })
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', directory], { stdio: 'ignore' })
  } catch {
    return undefined
  }
  const ballast = join(directory, 'ballast')
  return {
    directory,
    fill() {
      const file = openSync(ballast, 'a')
      try {
        for (const block of [Buffer.alloc(1024 * 1024), Buffer.alloc(4096)]) writeUntilFull(file, block)
      } finally {
        closeSync(file)
      }
    },
    free: () => rmSync(ballast, { force: true }),
    [Symbol.dispose]() {
      // Lazily: a process that was just killed may still be leaving it.
      execFileSync('umount', ['-l', directory], { stdio: 'ignore' })
    },
  }
}

function writeUntilFull(file: number, block: Buffer): void {
  try {
    while (writeSync(file, block) > 0);
  } catch {
    // ENOSPC is what was wanted.
  }
}
