export { Turn } from '../turn.ts'
