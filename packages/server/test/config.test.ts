import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { loadConfig, parseConfig } from '../src/config.ts'

const directory = mkdtempSync(join(tmpdir(), 'cyberun-config-'))
afterAll(() => rmSync(directory, { recursive: true }))

let files = 0
function yamlFile(text: string): string {
  const file = join(directory, `${++files}.yaml`)
  writeFileSync(file, text)
  return file
}

test('defaults need no file and no environment', () => {
  expect(loadConfig({})).toMatchObject({ control: { port: 8787 }, edge: { port: 8788, tunnel_domain: 'localhost' } })
})

test('the environment lies over the file', () => {
  const file = yamlFile('edge:\n  port: 1\n  tunnel_domain: t.example.org\n')
  const config = loadConfig({
    CYBERUN_CONFIG: file,
    CYBERUN_EDGE_PORT: '2',
    CYBERUN_EDGE_TRUSTED_PROXIES: '10.0.0.0/8, ::1',
  })
  expect(config.edge).toMatchObject({ port: 2, tunnel_domain: 't.example.org', trusted_proxies: ['10.0.0.0/8', '::1'] })
})

test.each([
  ['an unknown variable', { CYBERUN_EDGE_PROT: '1' }, /CYBERUN_EDGE_PROT.*did you mean CYBERUN_EDGE_PORT\?/],
  ['a port that is no number', { CYBERUN_EDGE_PORT: 'x' }, /edge\.port/],
  ['a port that is empty', { CYBERUN_EDGE_PORT: '' }, /edge\.port: .*number/],
  ['a port out of range', { CYBERUN_CONTROL_PORT: '70000' }, /control\.port/],
  ['a certificate without its key', { CYBERUN_EDGE_TLS_CERT_FILE: 'a.pem' }, /tls_key_file go together/],
  ['a database that is not PostgreSQL', { CYBERUN_DATABASE_URL: 'mysql://x' }, /database\.url/],
  ['a bucket that is none', { CYBERUN_OBJECTS_URL: 's3://host' }, /objects\.url: expected one bucket/],
  ['an object store of another kind', { CYBERUN_OBJECTS_URL: 'gs://host/bucket' }, /objects\.url: expected s3:/],
  ['a size that is no number', { CYBERUN_FILES_MAX_INPUT_BYTES: '5GB' }, /files\.max_input_bytes/],
  ['one port for a range', { CYBERUN_EDGE_TUNNEL_PORT_RANGE: '9000' }, /tunnel_port_range: expected two ports/],
  ['a range that runs backwards', { CYBERUN_EDGE_TUNNEL_PORT_RANGE: '9099-9000' }, /the lower port first/],
  ['a range of all ports', { CYBERUN_EDGE_TUNNEL_PORT_RANGE: '1-65535' }, /at most 1000 ports/],
  ['a flag that is neither true nor false', { CYBERUN_EDGE_DANGEROUSLY_ALLOW_PATH_PAGES: '1' }, /allow_path_pages/],
  [
    'pages that are both refused and let free',
    { CYBERUN_EDGE_DANGEROUSLY_ALLOW_PATH_PAGES: 'true', CYBERUN_EDGE_PATH_PAGES: 'refuse' },
    /contradict each other/,
  ],
  ['a proxy that is no address', { CYBERUN_EDGE_TRUSTED_PROXIES: '10.0.0.0/33' }, /10\.0\.0\.0\/8/],
  ['a file that is not there', { CYBERUN_CONFIG: '/nonexistent.yaml' }, /nonexistent\.yaml: cannot be read/],
  [
    'an unknown section',
    { CYBERUN_CONFIG: yamlFile('edeg:\n  port: 1\n') },
    /edeg: there is no such setting; did you mean edge\?/,
  ],
  [
    'an unknown key',
    { CYBERUN_CONFIG: yamlFile('edge:\n  prot: 1\n') },
    /edge\.prot: there is no such setting; did you mean port\?/,
  ],
  ['a list for a file', { CYBERUN_CONFIG: yamlFile('- a\n') }, /expected sections/],
  ['a scalar for a section', { CYBERUN_CONFIG: yamlFile('edge: 5\n') }, /edge: expected keys below it, got a number/],
  ['broken YAML', { CYBERUN_CONFIG: yamlFile('edge: [\n') }, /cannot be read as YAML/],
])('refuses %s and says where', (_, env, message) => {
  expect(() => loadConfig(env)).toThrow(message)
})

test.each(['control', 'edge', 'metrics'])(
  'a host of %s that no URL can hold, or that means every address, is refused',
  (section) => {
    for (const host of ['', ' ', '::1%lo', '[::1]', 'a b']) {
      expect(() => loadConfig({ [`CYBERUN_${section.toUpperCase()}_HOST`]: host })).toThrow(
        `${section}.host: expected an`,
      )
    }
  },
)

test.each(['', ' false', ' []', ' " "'])('a port of%j is refused: it would be any free one', (port) => {
  const settings = `edge:\n  port:${port}\n`
  expect(() => loadConfig({ CYBERUN_CONFIG: yamlFile(settings) })).toThrow(/edge\.port: /)
})

test('hosts are addresses and names', () => {
  for (const host of ['::', '::1', '0.0.0.0', 'localhost', 'gpu-1.local']) {
    expect(parseConfig({ edge: { host } }).edge.host).toBe(host)
  }
})

test('a secret in place of a section is not shown', () => {
  const text = 'database: postgres://u:hunter2@h/db\n'
  const loading = () => loadConfig({ CYBERUN_CONFIG: yamlFile(text) })
  expect(loading).toThrow(/database: expected keys below it, got a string/)
  expect(loading).not.toThrow(/hunter2/)
})

test('variables of the command line and of agents are not settings', () => {
  expect(() => loadConfig({ CYBERUN_URL: 'x', CYBERUN_AGENT_KEY: 'x', CYBERUN_TEST_SKIPS: 'x' })).not.toThrow()
})

test('nobody changes settings later', () => {
  const config = parseConfig({})
  expect(() => Object.assign(config.edge, { port: 1 })).toThrow(TypeError)
})

test('the settings table of the README names every setting and its default', () => {
  const readme = readFileSync(resolve(import.meta.dirname, '../../../README.md'), 'utf8')
  const rows = new Map(
    [...readme.matchAll(/^\| `([a-z]+\.[a-z_]+)` \| ([^|]*) \|/gm)].map((row) => [row[1], row[2]?.trim()]),
  )
  const config = parseConfig({}) as unknown as Record<string, Record<string, unknown>>
  for (const [section, keys] of Object.entries(config)) {
    for (const [key, value] of Object.entries(keys)) {
      expect(rows.get(`${section}.${key}`), `${section}.${key}`).toBe(Array.isArray(value) ? 'none' : `\`${value}\``)
    }
  }
  for (const optional of [
    'control.public_url',
    'edge.public_url',
    'edge.tunnel_port_range',
    'edge.tls_cert_file',
    'edge.tls_key_file',
    'database.url',
    'objects.url',
  ]) {
    expect(rows.has(optional), optional).toBe(true)
  }
})
