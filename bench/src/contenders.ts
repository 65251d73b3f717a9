import { join } from 'node:path'
import { type Child, findProgram, type LoadVerbs, type ServiceVerbs, startLoad, startService } from '@cyberun/testkit'
import { type Contender, direct } from './contender.ts'
import { haproxyChain } from './haproxy.ts'
import { sshReverse } from './ssh.ts'
import { startTunnels } from './tunnels.ts'

/** Everything that runs during a measurement, each in its own process. */
export interface Contenders extends AsyncDisposable {
  service: Child<ServiceVerbs>
  load: Child<LoadVerbs>
  list: readonly Contender[]
}

/** Starts the service, the clients and every contender whose programs are installed; names those that are not. */
export async function startContenders(directory: string): Promise<Contenders> {
  await using stack = new AsyncDisposableStack()
  const service = stack.use(startService())
  const load = stack.use(startLoad())
  const { port } = await service.call('listen', null)
  const list: Contender[] = [direct(port)]

  const haproxy = findProgram('haproxy')
  if (haproxy === undefined) console.warn('no HAProxy rows: apt-get install haproxy')
  else list.push(stack.use(await haproxyChain(haproxy, directory, port)))

  const ssh = findProgram('ssh')
  const sshd = findProgram('sshd')
  if (ssh === undefined || sshd === undefined)
    console.warn('no ssh rows: apt-get install openssh-client openssh-server')
  else list.push(stack.use(await sshReverse(ssh, directory, port)))

  const tunnels = stack.use(await startTunnels(join(directory, 'product'), port))
  list.push(...tunnels.list)
  const running = stack.move()
  return { service, load, list, [Symbol.asyncDispose]: () => running.disposeAsync() }
}
