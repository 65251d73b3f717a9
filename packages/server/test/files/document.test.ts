import { readFileSync } from 'node:fs'
import { HTTP_STATUS } from '@cyberun/api'
import { expect, test } from 'vitest'
import { IDLE_MS } from '../../src/files/file-door.ts'
import { DOWNLOAD_URL_MS, UPLOAD_URL_MS } from '../../src/files/files.ts'
import { LEFT_BEHIND_MS, SWEEP_MS } from '../../src/files/sweep.ts'

const page = readFileSync(new URL('../../../../docs/files.md', import.meta.url), 'utf8')

test('docs/files.md gives every refusal the status it has', () => {
  const rows = [...page.matchAll(/^\| (\w+) \| (\d{3}) \|/gm)].map(([, code = '', status]) => [code, Number(status)])
  expect(rows.length).toBeGreaterThan(0)
  expect(rows).toEqual(rows.map(([code]) => [code, HTTP_STATUS[code as keyof typeof HTTP_STATUS]]))
})

test('docs/files.md states the times that are in force', () => {
  const text = page.replace(/\s+/g, ' ')
  expect(UPLOAD_URL_MS).toBe(DOWNLOAD_URL_MS)
  expect(text).toContain(`stops working after ${UPLOAD_URL_MS / 60_000} minutes`)
  expect(text).toContain(`moves no byte for ${IDLE_MS / 1000} s`)
  expect([SWEEP_MS, LEFT_BEHIND_MS], 'every minute, after an hour').toEqual([60_000, 60 * 60_000])
})
