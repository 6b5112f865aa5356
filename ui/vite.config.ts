import { svelte } from '@sveltejs/vite-plugin-svelte'
import tailwindcss from '@tailwindcss/vite'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  plugins: [tailwindcss(), svelte()],
  build: {
    // The Python package serves this folder; the build hook passes its own --outDir to swap it in whole.
    outDir: '../app/static',
    emptyOutDir: true,
    // Qt WebEngine and WebKitGTK of Debian 12 are the oldest engines the window meets.
    target: ['chrome108', 'safari16.4'],
    // The server's policy allows no inline data in scripts and styles, so every asset is a file.
    assetsInlineLimit: 0,
  },
  test: { include: ['tests/**/*.test.ts'] },
})
