import { runTcpSuite } from '../../src/tcp-suite.ts'

/** The suite must hold where nothing stands between. */
runTcpSuite({ name: 'nothing', start: async ({ port }) => ({ port, stop: async () => {} }) }, { bulkMebibytes: 16 })
