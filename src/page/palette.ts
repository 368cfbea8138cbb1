/** Colours as the style sheet has them at this moment: a canvas knows no variables. */
export interface Palette {
  readonly line: string
  readonly band: string
  readonly forecast: string
  readonly forecastBand: string
  readonly grid: string
  readonly axis: string
}

const probes: Readonly<Record<keyof Palette, string>> = {
  line: '--plot-line',
  band: '--plot-band',
  forecast: '--plot-forecast',
  forecastBand: '--plot-forecast-band',
  grid: '--plot-grid',
  axis: '--ink-soft',
}

export function paletteOf(host: HTMLElement): Palette {
  const probe = document.createElement('span')
  probe.hidden = true
  host.append(probe)
  const colour = (variable: string): string => {
    probe.style.color = `var(${variable})`
    return getComputedStyle(probe).color
  }
  const palette = {
    line: colour(probes.line),
    band: colour(probes.band),
    forecast: colour(probes.forecast),
    forecastBand: colour(probes.forecastBand),
    grid: colour(probes.grid),
    axis: colour(probes.axis),
  }
  probe.remove()
  return palette
}
