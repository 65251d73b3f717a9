import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { processTree } from '@cyberun/testkit'
import type { Contender } from './contender.ts'
import { freePort, portOpen, runProgram } from './programs.ts'

/** `ssh -R` from the service's machine to an sshd of our own on loopback. */
export async function sshReverse(
  programs: { ssh: string; sshd: string },
  directory: string,
  servicePort: number,
): Promise<Contender> {
  const file = (name: string) => join(directory, name)
  for (const key of ['host_key', 'user_key']) {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file(key)])
  }
  execFileSync('cp', [file('user_key.pub'), file('authorized_keys')])
  // sshd run as root wants its privilege separation directory, which only the system's own start-up makes.
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 })

  const sshPort = await freePort()
  const forwardedPort = await freePort()
  writeFileSync(file('sshd_config'), sshdConfig(sshPort, file))
  const sshd = runProgram(programs.sshd, ['-D', '-e', '-f', file('sshd_config')])
  await portOpen(sshPort, sshd.said)
  const ssh = runProgram(programs.ssh, sshArguments({ sshPort, forwardedPort, servicePort }, file('user_key')))
  await portOpen(forwardedPort, () => sshd.said() + ssh.said())

  return {
    name: 'ssh',
    description: 'client → sshd ⇠ ssh -R → service',
    route: { kind: 'tcp', port: forwardedPort },
    url: undefined,
    near: processTree(sshd.pid),
    far: [ssh.pid],
    async [Symbol.asyncDispose]() {
      await ssh[Symbol.asyncDispose]()
      await sshd[Symbol.asyncDispose]()
    },
  }
}

const sshdConfig = (port: number, file: (name: string) => string) => `
Port ${port}
ListenAddress 127.0.0.1
HostKey ${file('host_key')}
AuthorizedKeysFile ${file('authorized_keys')}
StrictModes no
UsePAM no
AllowTcpForwarding yes
PidFile none
`

function sshArguments(ports: { sshPort: number; forwardedPort: number; servicePort: number }, key: string): string[] {
  const options = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'BatchMode=yes', 'LogLevel=ERROR']
  const forward = `127.0.0.1:${ports.forwardedPort}:127.0.0.1:${ports.servicePort}`
  const flags = options.flatMap((option) => ['-o', option])
  return ['-F', '/dev/null', '-N', '-i', key, ...flags, '-R', forward, '-p', String(ports.sshPort), '127.0.0.1']
}
