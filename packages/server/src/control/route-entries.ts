import { type RouteName, type RouteSpec, routes } from '@cyberun/api'

/** The route table as a list, each name taken apart once. `path` keeps the braces of OpenAPI. */
export interface RouteEntry {
  name: RouteName
  method: string
  path: string
  spec: RouteSpec
}

export const routeEntries: readonly RouteEntry[] = (Object.keys(routes) as RouteName[]).map((name) => {
  const [method = '', path = ''] = name.split(' ')
  return { name, method, path, spec: routes[name] }
})

/** Methods of each path, for `Allow`. HEAD goes wherever GET goes. */
export const methodsByPath: ReadonlyMap<string, readonly string[]> = new Map(
  [...Map.groupBy(routeEntries, (entry) => entry.path)].map(([path, entries]) => {
    const methods = entries.map((entry) => entry.method)
    return [path, methods.includes('GET') ? ['HEAD', ...methods] : methods]
  }),
)
