import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { expect, test } from 'vitest'
import { startFaultRelay, watchLeaks } from '../../src/index.ts'

test('a leak watch sees sockets and timers come, names who made them, and sees them go', async () => {
  using watch = watchLeaks()
  const service = createServer((socket) => socket.on('error', () => socket.destroy())).listen(0, '127.0.0.1')
  await once(service, 'listening')
  const address = service.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  {
    await using relay = await startFaultRelay({ port: address.port })
    relay.set({ delayMs: 60_000 }, 'toTarget')
    const socket = connect({ port: relay.port, host: '127.0.0.1' })
    socket.on('error', () => socket.destroy())
    socket.write('on its way for a minute')
    const timers = () => watch.leftovers().filter((leftover) => leftover.startsWith('Timeout'))
    await expect.poll(timers, { interval: 2, timeout: 5_000 }).toHaveLength(1)
    expect(timers()[0]).toContain('fault-pipe.ts')
    const sockets = () => watch.leftovers().filter((leftover) => leftover.startsWith('TCPWRAP')).length
    await expect.poll(sockets).toBeGreaterThanOrEqual(4)
  }
  service.close()
  await expect.poll(watch.leftovers, { interval: 5, timeout: 5_000 }).toEqual([])
})
