import { once } from 'node:events'
import { createServer } from 'node:net'

/** Above what services of a machine usually have, and what browsers refuse to ask. */
const FIRST_PORT = 12_000
/** From 32,768 on the kernel gives ports to every connection and to every listener that asks for any. */
const PAST_LAST_PORT = 32_768
/** Test files that run beside each other look in different parts. */
const PARTS = 8
const PART_PORTS = Math.floor((PAST_LAST_PORT - FIRST_PORT) / PARTS)

const first = FIRST_PORT + (Number(process.env['VITEST_POOL_ID'] ?? 0) % PARTS) * PART_PORTS
let next = Math.floor(Math.random() * PART_PORTS)

/**
 * A free port of the loopback, for what must know its port before it starts. Nobody is given it by the kernel, so that it
 * is still free then, and between the end of what listened there and its next start.
 */
export function freePort(): Promise<number> {
  return freePorts(1)
}

/** The first of so many such ports in a row. */
export async function freePorts(count: number): Promise<number> {
  for (let looked = 0; looked < PART_PORTS; looked += count) {
    if (next + count > PART_PORTS) next = 0
    const ports = Array.from({ length: count }, (_, at) => first + next + at)
    next += count
    if ((await Promise.all(ports.map(isFree))).every(Boolean)) return ports[0] ?? 0
  }
  throw new Error(`no ${count} free ports in a row from ${first} on`)
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, '127.0.0.1')
  try {
    await once(server, 'listening')
  } catch {
    return false
  }
  server.close()
  await once(server, 'close')
  return true
}
