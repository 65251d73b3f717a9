import { readdir, readFile, readlink } from 'node:fs/promises'

/** How much a process and its children have done since they began. */
export interface Activity {
  /** Processor time, of all cores. */
  readonly cpuMs: number
  /** Read from and written to disks. */
  readonly diskBytes: number
}

/** Linux counts processor time in hundredths of a second, whatever the kernel's own tick. */
const TICK_MS = 10
const LISTENING = '0A'

/**
 * What the process that listens on a port of this machine's loopback has done, from /proc. Undefined where there is no
 * such process or it may not be looked at: another system, another user's, another machine's behind a forward.
 */
export async function readActivity(port: number): Promise<Activity | undefined> {
  const inode = await listeningInode(port)
  if (inode === undefined) return undefined
  const pid = await holderOf(`socket:[${inode}]`)
  return pid === undefined ? undefined : activityOfTree(pid)
}

async function listeningInode(port: number): Promise<string | undefined> {
  const hexPort = port.toString(16).toUpperCase().padStart(4, '0')
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    const lines = (await textOf(table)).split('\n').slice(1)
    for (const line of lines) {
      const [, local, , state, , , , , , inode] = line.trim().split(/\s+/)
      if (state === LISTENING && local?.endsWith(`:${hexPort}`)) return inode
    }
  }
  return undefined
}

async function holderOf(link: string): Promise<string | undefined> {
  for (const pid of await namesIn('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    for (const fd of await namesIn(`/proc/${pid}/fd`)) {
      if ((await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')) === link) return pid
    }
  }
  return undefined
}

async function activityOfTree(pid: string): Promise<Activity | undefined> {
  const stat = await textOf(`/proc/${pid}/stat`)
  // The name of a program may hold spaces and parentheses: count fields from behind the last one.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  if (fields.length < 15) return undefined
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0)
  const io = await textOf(`/proc/${pid}/io`)
  const disk = [...io.matchAll(/^(?:read|write)_bytes: (\d+)$/gm)].reduce((sum, [, bytes]) => sum + Number(bytes), 0)
  let [cpuMs, diskBytes] = [ticks * TICK_MS, disk]
  for (const thread of await namesIn(`/proc/${pid}/task`)) {
    for (const child of (await textOf(`/proc/${pid}/task/${thread}/children`))
      .split(' ')
      .filter((name) => name !== '')) {
      const its = await activityOfTree(child)
      cpuMs += its?.cpuMs ?? 0
      diskBytes += its?.diskBytes ?? 0
    }
  }
  return { cpuMs, diskBytes }
}

/** Processes come and go while one looks. */
const textOf = (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '')
const namesIn = (path: string): Promise<string[]> => readdir(path).catch(() => [])
