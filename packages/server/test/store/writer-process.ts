import { createLog } from '@cyberun/link/log'
import { type AuditRecord, appendAudit } from '../../src/store/audit.ts'
import { openStore } from '../../src/store/store.ts'

/**
 * Writes rows until it is killed and prints the id of each as soon as the store has acknowledged it. Opens the store
 * when its standard input says so, so that its modules are loaded while another one still runs.
 */
const [round = '0', dataDir = '.', databaseUrl] = process.argv.slice(2)
const WRITERS = 4

process.stdin.once('data', async () => {
  const store = await openStore({ dataDir, databaseUrl, log: createLog({ level: 'silent', format: 'json' }) })
  for (let writer = 0; writer < WRITERS; writer++) void write(writer)

  async function write(writer: number): Promise<never> {
    for (let at = 0; ; at++) {
      const id = `${round}-${writer}-${at}`
      // Every other row in a transaction of two statements: both of them or none.
      if (at % 2 === 0) await appendAudit(store, record(id))
      else
        await store.transaction(async (sql) => {
          await appendAudit(sql, record(id))
          await appendAudit(sql, record(`${id}-twin`))
        })
      process.stdout.write(`${id}\n`)
    }
  }
})

function record(id: string): AuditRecord {
  return { id, teamId: 't', at: 0, actor: 'server', action: 'test.wrote', subject: 's', detail: {} }
}
