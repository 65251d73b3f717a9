import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { createLog } from '@cyberun/link/log'
import { freePort } from '@cyberun/testkit'
import { until } from '@cyberun/testkit/until'
import { expect, onTestFinished, test } from 'vitest'
import { parseConfig } from '../src/config.ts'
import { startServer } from '../src/main.ts'
import { claimAgent } from '../src/store/agents.ts'
import { openServerSecret } from '../src/store/server-secret.ts'
import { openStore } from '../src/store/store.ts'
import { insertTunnel } from '../src/store/tunnels.ts'
import { newTunnelKeys, secretsOf } from '../src/tunnels/tunnel-keys.ts'

const DAY_MS = 24 * 3600 * 1000

test('a part that cannot write its last does not keep the server running', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'cyberun-stopping-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  const lines: string[] = []
  const log = createLog({ level: 'error', format: 'json', write: (line) => void lines.push(line) })
  const anyPort = { port: 0 }
  const config = parseConfig({ data: { dir }, control: anyPort, edge: anyPort, metrics: anyPort })

  // A tunnel that is open, with every right behind it.
  const before = await startServer(config, { version: '0.1.0', log })
  const { userId = '', teamId = '' } = before.firstUser ?? {}
  const owner = { userId, teamId, role: 'owner' } as const
  const key = await before.identity.createCredential(owner, { kind: 'agent', displayName: 'gpu-1' })
  await before.stop(AbortSignal.abort())
  const store = await openStore({ dataDir: dir, log })
  const agent = { machineKey: 'm', gatewayId: 'gw', credentialId: key.id, agentVersion: '1', at: Date.now() }
  await claimAgent(store, { teamId, agentId: 'gpu-1', ...agent }, () => false)
  const secrets = secretsOf(openServerSecret(join(dir, 'secret.key')), 'session-1', newTunnelKeys())
  await insertTunnel(store, {
    ...{ sessionId: 'session-1', teamId, agentId: 'gpu-1', targetPort: 80, protocol: 'http', ...secrets },
    ...{ openedByUserId: userId, openedByCredentialId: null, openedByFamilyId: null, taskId: null },
    ...{ openedAt: Date.now(), lastActivityAt: Date.now(), idleTimeoutMs: DAY_MS, bytesIn: 0, bytesOut: 0 },
    ...{ profile: 'generic', hostPolicy: 'rewrite', pathMode: 'strip', edgePort: null },
  })
  await store.close()

  const server = await startServer(config, { version: '0.1.0', log })
  await takeTunnelsAway(join(dir, 'cyberun.db'))
  await server.stop(AbortSignal.abort())
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ msg: 'server.stop_failed' }])
  // The last part to stop was the store, which has let go of its directory.
  await (await openStore({ dataDir: dir, log })).close()
})

test('a start that fails once the edge listens leaves no listener behind', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'cyberun-stopping-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  const log = createLog({ level: 'silent', format: 'json', write() {} })
  const anyPort = { port: 0 }
  const port = await freePort()
  const config = parseConfig({ data: { dir }, control: anyPort, edge: { port }, metrics: anyPort })
  // The settings let no such thing through: it stands for whatever goes wrong behind the listener.
  const edge = { ...config.edge, public_url: 'no URL' }
  await expect(startServer({ ...config, edge }, { version: '0.1.0', log })).rejects.toThrow('Invalid URL')
  await (await startServer(config, { version: '0.1.0', log })).stop(AbortSignal.abort())
})

/** From here on nothing can be written about a tunnel. */
async function takeTunnelsAway(file: string): Promise<void> {
  const database = new DatabaseSync(file, { timeout: 0 })
  // The server may be in the middle of a transaction, which goes on only while we do not wait here.
  const isDone = () => {
    try {
      database.exec('alter table tunnel rename to elsewhere')
      return true
    } catch {
      return false
    }
  }
  await until(isDone)
  database.close()
}
