import { lacksPrograms, startPostgres } from '@cyberun/testkit'
import pg from 'pg'
import { expect, test } from 'vitest'
import { openStore } from '../../src/store/store.ts'
import { silent } from './engines.ts'

test.skipIf(lacksPrograms('postgres'))(
  'a step of the schema may take longer than a statement of a call',
  { timeout: 60_000 },
  async () => {
    await using postgres = await startPostgres()
    const databaseUrl = await postgres.createDatabase('slow')
    const open = () => openStore({ dataDir: 'unused', databaseUrl, log: silent })
    await (await open()).close()
    const admin = new pg.Client({ connectionString: databaseUrl })
    await admin.connect()
    try {
      // As a release without the last step left it, with a table so large that its index takes 11 s.
      await admin.query(`delete from schema_migration where name = '0005_task_lists'`)
      await admin.query('drop index task_ended_badly')
      await admin.query(
        'create function slow() returns event_trigger language plpgsql as $$ begin perform pg_sleep(11); end $$',
      )
      await admin.query(
        `create event trigger slow on ddl_command_start when tag in ('CREATE INDEX') execute function slow()`,
      )
      const store = await open()
      const { rows } = await admin.query(`select 1 from pg_indexes where indexname = 'task_ended_badly'`)
      expect(rows).toHaveLength(1)
      await store.close()
    } finally {
      await admin.end()
    }
  },
)
