import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { requireProgram } from './programs.ts'
import { runProgram } from './run-program.ts'

/** A real OpenSSH server for this test alone. */
export interface Sshd extends AsyncDisposable {
  readonly port: number
  /** `user@127.0.0.1`, for ssh, scp and rsync. */
  readonly destination: string
  /** Options that make ssh and scp use this server's keys and nothing of the user's own. */
  readonly clientOptions: readonly string[]
}

/**
 * Starts sshd with its own configuration and keys below `directory`, as the user of this process. Each connection gets
 * a process of its own in inetd mode, so that the port can be one that the system chose.
 */
export async function startSshd(directory: string): Promise<Sshd> {
  mkdirSync(directory, { recursive: true })
  const hostKey = await makeKey(join(directory, 'host_key'))
  const clientKey = await makeKey(join(directory, 'client_key'))
  copyFileSync(`${clientKey}.pub`, join(directory, 'authorized_keys'))
  const config = join(directory, 'sshd_config')
  writeFileSync(
    config,
    [
      `HostKey ${hostKey}`,
      `AuthorizedKeysFile ${join(directory, 'authorized_keys')}`,
      'PasswordAuthentication no',
      'KbdInteractiveAuthentication no',
      'PermitRootLogin prohibit-password',
      'StrictModes no',
      'UsePAM no',
      'PrintMotd no',
      'Subsystem sftp internal-sftp',
      '',
    ].join('\n'),
  )
  // Where a root sshd puts its unprivileged half; Debian makes it when the service starts, and no service runs here.
  if (userInfo().uid === 0) mkdirSync('/run/sshd', { recursive: true })

  const sshd = requireProgram('sshd')
  const sockets = new Set<Socket>()
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
    const child = spawn(sshd, ['-i', '-f', config], { stdio: [socket, socket, 'ignore'] })
    sockets.add(socket)
    child.on('exit', () => {
      sockets.delete(socket)
      socket.destroy()
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    destination: `${userInfo().username}@127.0.0.1`,
    clientOptions: [
      ...['-F', 'none', '-i', clientKey, '-o', 'IdentitiesOnly=yes', '-o', 'BatchMode=yes', '-o', 'LogLevel=ERROR'],
      ...['-o', 'StrictHostKeyChecking=no', '-o', `UserKnownHostsFile=${join(directory, 'known_hosts')}`],
    ],
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}

async function makeKey(path: string): Promise<string> {
  const { status, stderr } = await runProgram('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path])
  if (status !== 0) throw new Error(`ssh-keygen failed: ${stderr}`)
  return path
}
