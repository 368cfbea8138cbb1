/** Made by tools/build-page.js from the errors reference: what dead letters can have been refused for. */
declare module 'virtual:error-guide' {
  export const errorGuide: Readonly<
    Partial<Record<string, { readonly id: string; readonly text: string; readonly cause: string; readonly fix: string }>>
  >
}
declare module '*.css' {}
