import { join } from 'node:path'
import { startSshd } from '@cyberun/testkit'
import type { Contender } from './contender.ts'
import { freePort, portOpen, startProgram } from './programs.ts'

/** `ssh -R` from the service's machine to an sshd of our own on loopback. */
export async function sshReverse(sshProgram: string, directory: string, servicePort: number): Promise<Contender> {
  await using stack = new AsyncDisposableStack()
  const sshd = stack.use(await startSshd(join(directory, 'sshd')))
  const forwardedPort = await freePort()
  const forward = `127.0.0.1:${forwardedPort}:127.0.0.1:${servicePort}`
  const server = ['-p', String(sshd.port), sshd.destination]
  const ssh = stack.use(startProgram(sshProgram, ['-N', ...sshd.clientOptions, '-R', forward, ...server]))
  await portOpen(forwardedPort, ssh.said)

  const running = stack.move()
  return {
    name: 'ssh',
    route: { kind: 'tcp', port: forwardedPort },
    url: undefined,
    near: [],
    far: [],
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}
