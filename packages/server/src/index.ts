export { type Config, ConfigError, dataPath, loadConfig, parseConfig } from './config.ts'
export type { FirstUser } from './identity/identity.ts'
export { type RunningServer, type ServerDeps, StartError, startServer } from './main.ts'
export { StoreOpenError } from './store/store-error.ts'
