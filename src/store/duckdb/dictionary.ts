export { compareKeys, Dictionary, erasedKey } from '../dictionary.ts'
