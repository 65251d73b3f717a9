import { routes } from '@cyberun/api'
import { Validator } from '@seriousme/openapi-schema-validator'
import { expect, test } from 'vitest'
import { docsPage } from '../../src/control/docs-page.ts'
import { describeApi } from '../../src/control/openapi.ts'

const document = describeApi('0.1.0')

test('the document is valid OpenAPI 3.1', async () => {
  const validator = new Validator()
  expect(await validator.validate(JSON.parse(JSON.stringify(document)))).toEqual({ valid: true })
  expect(validator.version).toBe('3.1')
})

test('it holds every call of the table and no other', () => {
  const described = Object.entries(document.paths ?? {}).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  )
  expect(described.sort()).toEqual(Object.keys(routes).sort())
})

test('what is answered when the owner is to leave is in it', () => {
  const member = document.paths?.['/members/{userId}']
  for (const method of ['put', 'delete'] as const)
    expect(Object.keys(member?.[method]?.responses ?? {})).toContain('409')
})

test('operation ids are unique', () => {
  const ids = Object.values(document.paths ?? {}).flatMap((methods) => Object.values(methods).map((o) => o.operationId))
  expect(new Set(ids).size).toBe(ids.length)
})

test('the page for people names every call and every field of a body, and fetches nothing', async () => {
  const text = await (await docsPage(document)).text()
  for (const [name, spec] of Object.entries(routes)) {
    const [method = '', path = ''] = name.split(' ')
    expect(text).toContain(`<span class="verb">${method}</span>${path}</h3>`)
    if ('body' in spec)
      for (const field of Object.keys(spec.body.shape)) expect(text).toContain(`<code>${field}</code>`)
  }
  expect(text).not.toMatch(/<script|<link|<img|src=|url\(|@import|undefined|\[object/)
  for (const [, href] of text.matchAll(/href="([^"]*)"/g)) expect(href).toMatch(/^(#|\/)/)
})
