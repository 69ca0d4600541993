// Draws the figures in the reader's scheme, and shows all of the page to a printer.
"use strict";
(() => {
  const root = document.documentElement;
  const plots = [...document.querySelectorAll(".plot")];
  const PAPER = 640; // pixels that a figure has on A4

  const template = () => {
    const style = getComputedStyle(root);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = {
      gridcolor: colour("--line"),
      zerolinecolor: colour("--muted"),
      title: { font: { size: 13, color: colour("--muted") } },
    };
    return {
      layout: {
        font: { family: style.fontFamily, size: 13, color: colour("--ink") },
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        hoverlabel: { bgcolor: colour("--surface"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
        xaxis: axis,
        yaxis: axis,
      },
    };
  };

  for (const plot of plots) {
    const { data, layout } = JSON.parse(plot.nextElementSibling.textContent);
    Plotly.newPlot(plot, data, { ...layout, template: template() }, { displayModeBar: false, responsive: true });
  }

  const paint = (size) => plots.forEach((plot) => Plotly.relayout(plot, { template: template(), ...size }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => paint({}));

  const reveal = () => {
    const place = document.getElementById(location.hash.slice(1));
    for (let one = place; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
    place?.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((part) => (part.open = true));
    root.classList.add("printed");
    paint({ width: PAPER });
  });
  addEventListener("afterprint", () => {
    opened.forEach((part) => (part.open = false));
    root.classList.remove("printed");
    paint({ width: undefined, autosize: true });
  });
})();
