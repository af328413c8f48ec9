// Visits the hub's page in a real browser, for tests/page.rs: node browse.mjs URL NODE_MODULES CHROMIUM [SCREENSHOTS]
//
// A line "publish TEMPERATURE" ("publish" alone: of what it is), "kill" or "restart" asks the test to do that to the hub. What is found is told at the end, all
// of it; the exit code says whether it was nothing.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [url, modules, executablePath, screenshots] = process.argv.slice(2);
const require = createRequire(join(modules, "page.js"));
const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const SOON_MS = 15_000, FRESH_MS = 10_000, ALL_MS = 300_000;
const RANGES = ["30m", "1h", "6h", "24h", "7d", "30d", "1y", "all"];
const PAGES = ["/", "/extremes", "/health"];
const CHARTS = ["Temperature", "Wind", "Wind direction", "Rain", "Pressure", "Humidity", "Irradiance", "Magnetic flux",
  "Magnetic flux, magnitude"];
const WIDTHS = [360, 1280], SCHEMES = ["light", "dark"];
const LIVE = "/api/v1/live";

const found = [];
let doing = "start", isHubDown = false;
const check = (holds, text) => { if (!holds) found.push(`${doing}: ${text}`); };
setTimeout(() => { console.log(`too slow, while: ${doing}`, found); process.exit(1); }, ALL_MS).unref();

const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});

/** Opens a page that tells of whatever a good page never does. */
async function opened(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(SOON_MS);
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) check(isHubDown, `console ${message.type()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => check(false, `page error: ${error}`));
  page.on("request", (request) => {
    const isOwn = request.url().startsWith("data:") || new URL(request.url()).origin === url;
    check(isOwn, `request beyond the hub: ${request.url()}`);
  });
  page.on("requestfailed", (request) => {
    // A page that is left closes its stream.
    const isLeft = request.url().includes(LIVE) && request.failure()?.errorText === "net::ERR_ABORTED";
    check(isHubDown || isLeft, `failed: ${request.url()} ${request.failure()?.errorText}`);
  });
  page.on("response", (response) => check(response.status() < 400, `${response.status()} for ${response.url()}`));
  return page;
}

async function step(name, part) {
  doing = name;
  const begun = Date.now();
  try { await part(); } catch (error) { check(false, String(error)); }
  console.log(`${name}: ${Date.now() - begun} ms`);
}

const shown = (page, id) => page.locator(`#v-0-${id}`).innerText();

/** Looks at each chart that is drawn. */
async function lookAtCharts(page, what) {
  const charts = await page.locator("#charts-body .plot svg").evaluateAll((svgs) => svgs.map((svg) => ({
    title: svg.querySelector("title").textContent,
    text: svg.outerHTML,
    lines: [...svg.querySelectorAll("path, polyline")]
      .filter((line) => /chart-(line|bar|dot)-/.test(line.getAttribute("class")))
      .map((line) => line.getAttribute("d") ?? line.getAttribute("points") ?? ""),
    box: svg.getBoundingClientRect().toJSON(),
  })));
  const titles = charts.map((chart) => chart.title);
  check(String(titles) === String(CHARTS), `${what} has the charts ${titles}`);
  for (const { title, text, lines, box } of charts) {
    check(lines.some((line) => /^M\s*-?[\d.]+[\s-]*[\d.]+\S/.test(line)), `${what}: nothing is drawn in ${title}: ${lines}`);
    check(!/NaN|Infinity|undefined/.test(text), `${what}: no number in ${title}`);
    check(box.width > 250 && box.height > 100, `${what}: ${title} is ${box.width} x ${box.height}`);
  }
  return charts;
}

if (screenshots) {
  await step("screenshots", async () => {
    console.log("publish");
    for (const [width, height] of [[360, 2272], [1280, 1690]]) {
      for (const colorScheme of SCHEMES) {
        const page = await opened({ viewport: { width, height }, colorScheme });
        await page.goto(`${url}/?range=24h`);
        await page.locator("#v-0-temperature").locator("xpath=../..").filter({ hasText: /\d s ago/ }).waitFor();
        await page.locator("#live").filter({ hasText: "live" }).waitFor();
        await page.screenshot({ path: join(screenshots, `page-${width}-${colorScheme}.png`) });
        await page.context().close();
      }
    }
  });
}

await step("values with their units", async () => {
  const page = await opened();
  await page.goto(url);
  for (const [id, form] of [["temperature", /^−?\d+\.\d\s°C$/], ["humidity", /^\d+\s%$/], ["pressure_sea_level", /^\d+\.\d\shPa$/],
    ["wind_speed", /^\d+\.\d\skm\/h$/], ["wind_direction", /^\d+\s°$/], ["rain", /^\d+\.\d\smm$/], ["dew_point", /°C$/]]) {
    const text = await shown(page, id);
    check(form.test(text), `${id} reads ${JSON.stringify(text)}`);
  }
  check(/µT$/.test(await page.locator("#v-1-flux_x").innerText()), "the magnetic field has no unit");
  await page.getByRole("link", { name: "Imperial" }).click();
  check(/°F$/.test(await shown(page, "temperature")), "imperial units are not");
  await page.context().close();
});

await step("live on a publish, over a kill and a restart, without a reload", async () => {
  const page = await opened();
  await page.goto(url);
  await page.evaluate(() => { window.neverReloaded = true; });
  const live = page.locator("#live");
  const isNow = async (id, text, ms) => {
    const begun = Date.now();
    await page.waitForFunction(([id, text]) => document.querySelector(`#${id}`)?.innerText.includes(text), [id, text], { timeout: ms });
    return Date.now() - begun;
  };
  await isNow("live", "live", SOON_MS);
  check(!(await shown(page, "temperature")).startsWith("17.3"), "it has that temperature already");
  console.log("publish 17.3");
  console.log(`a reading was on the page after ${await isNow("v-0-temperature", "17.3", FRESH_MS)} ms`);
  isHubDown = true;
  console.log("kill");
  await isNow("live", "reconnecting", SOON_MS);
  check(await live.evaluate((element) => element.classList.contains("lost")), "the lost connection looks like a good one");
  check((await shown(page, "temperature")).startsWith("17.3"), "the last value has gone with the connection");
  console.log("restart");
  await page.waitForFunction(() => document.querySelector("#live").innerText === "live", null, { timeout: 45_000 });
  isHubDown = false;
  console.log("publish -4.6");
  await isNow("v-0-temperature", "\u22124.6", FRESH_MS);
  check(await page.evaluate(() => window.neverReloaded === true), "the page was reloaded");
  check(!(await page.evaluate(() => document.body.innerText)).includes("reconnecting"), "it still says that it reconnects");
  // Leaves the usual weather behind.
  console.log("publish 8.4");
  await isNow("v-0-temperature", "8.4", FRESH_MS);
  await page.context().close();
});

await step("charts of every range", async () => {
  const page = await opened();
  for (const range of RANGES) {
    await page.goto(`${url}/?range=${range}`);
    await lookAtCharts(page, range);
    check(await page.locator(".choice a[aria-current]").first().evaluate((link) => link.href.includes("range=")), `${range} is not marked`);
  }
  await page.goto(url);
  const day = 86_400_000, local = (time) => new Date(time).toLocaleString("sv", { timeZone: "Europe/Berlin" }).slice(0, 16).replace(" ", "T");
  await page.locator("input[name=from]").fill(local(Date.now() - 1.5 * day));
  await page.locator("input[name=to]").fill(local(Date.now() - 0.75 * day));
  await page.getByRole("button", { name: "Show" }).click();
  await page.waitForURL(/from=.*to=/);
  await lookAtCharts(page, "a range of one's own");
  check(await page.locator("form.own.current").count() === 1, "one's own range is not marked");
  await page.context().close();
});

await step("links of a range with one end", async () => {
  const page = await opened();
  await page.goto(`${url}/?from=${new Date(Date.now() - 36_000_000).toISOString()}&range=6h`);
  await page.getByRole("link", { name: "Imperial" }).click();
  await lookAtCharts(page, "six hours from one moment on, in other units");
  const typed = await page.locator(".own input[type=datetime-local]").evaluateAll((inputs) => inputs.map((input) => input.value));
  check(Date.parse(typed[1]) - Date.parse(typed[0]) === 6 * 3_600_000, `the form has ${typed}`);
  await page.context().close();
});

await step("a gap is drawn and explained", async () => {
  const page = await opened();
  await page.goto(`${url}/?range=24h`);
  const [temperature] = await lookAtCharts(page, "24h");
  check(temperature.lines.some((line) => (line.match(/M/g) ?? []).length === 2 && line.length > 200), "the line runs through the gap");
  const gaps = await page.locator(".plot .chart-gap").evaluateAll((shades) => shades.map((shade) => ({
    title: shade.querySelector("title")?.textContent ?? "", width: shade.getBBox().width, fill: getComputedStyle(shade).fill,
  })));
  check(gaps.length >= CHARTS.length, `${gaps.length} gaps are shaded`);
  const [first] = gaps;
  check(/sensor was silent/.test(first?.title), `the gap's title is ${first?.title}`);
  // Two of 24 hours, in a chart of 400 with its margins.
  check(gaps.some((gap) => gap.width > 20 && gap.width < 40) && first.fill !== "none", `the gap is ${first?.width} wide, ${first?.fill}`);
  await page.locator("#chart-gaps summary").click();
  const listed = await page.locator("#chart-gaps li").allInnerTexts();
  check(listed.some((text) => /2[2-5] readings of .*weathermeters are missing: the sensor was silent/.test(text)), `listed: ${listed}`);
  await page.context().close();
});

await step("extremes and health", async () => {
  const page = await opened();
  await page.goto(`${url}/extremes`);
  for (const name of ["Day", "Month", "Year", "All time"]) {
    const table = page.getByRole("region", { name: `${name}: lowest and highest` });
    check(/Temperature[\s\S]*°C/.test(await table.innerText()), `no temperature in ${name}`);
  }
  await page.getByRole("link", { name: "Health", exact: true }).click();
  check(/The hub is /.test(await page.locator(".verdict").innerText()), "no verdict");
  check(/every 5 min/.test(await page.locator("table.sources").innerText()), "no rhythm");
  check(/missing: the sensor was silent/.test(await page.locator(".gap-sources").innerText()), "the gaps are not explained");
  await page.context().close();
});

await step("without JavaScript", async () => {
  const page = await opened({ javaScriptEnabled: false });
  await page.goto(url);
  check(/\d.*°C/.test(await shown(page, "temperature")), "no value");
  check(await page.locator("#live").isHidden(), "it says that it is live");
  check(/reload the page/.test(await page.locator("noscript").innerText()), "nothing says how to go on");
  await page.getByRole("link", { name: "7 d", exact: false }).first().click();
  check(page.url().includes("range=7d"), `the link led to ${page.url()}`);
  check(await page.locator(".plot svg path").count() > CHARTS.length, "no charts");
  await page.getByRole("link", { name: "Extremes" }).click();
  check(await page.locator("h1").innerText() === "Extremes", "no extremes");
  await page.context().close();
});

await step("no scrolling sideways on a phone", async () => {
  const page = await opened({ viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 });
  for (const path of [...PAGES, "/?units=imperial&range=1y", "/?units=si&from=2020-01-01&to=2030-01-01"]) {
    await page.goto(url + path);
    const { width, wide } = await page.evaluate(() => ({
      width: document.documentElement.scrollWidth,
      wide: [...document.body.querySelectorAll("*")]
        .filter((element) => element.getBoundingClientRect().right > 360.5 && !element.closest(".scroll, svg"))
        .map((element) => `${element.tagName}.${element.className}`),
    }));
    check(width <= 360 && wide.length === 0, `${path} is ${width} wide: ${wide.slice(0, 5)}`);
  }
  await page.context().close();
});

await step("by keyboard", async () => {
  const page = await opened();
  await page.goto(url);
  const stops = [];
  for (let tab = 0; tab < 60; tab++) {
    await page.keyboard.press("Tab");
    const stop = await page.evaluate(() => {
      const element = document.activeElement, box = element.getBoundingClientRect(), style = getComputedStyle(element);
      const words = element.className === "skip" ? "skip" : element.name || element.innerText || element.tagName;
      return {
        words, isBody: element === document.body,
        isSeen: box.width > 0 && box.height > 0 && box.top >= 0 && box.bottom <= innerHeight,
        hasOutline: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
      };
    });
    if (stop.isBody) break;
    stops.push(stop);
    check(stop.isSeen && stop.hasOutline, `the focus on ${stop.words} is not to be seen: ${JSON.stringify(stop)}`);
  }
  const order = stops.map((stop) => stop.words);
  const wanted = ["skip", "Now", "Extremes", "Health", "30 min", "24 h", "All", "from", "to", "Show", "Metric"];
  const places = wanted.map((words) => order.findIndex((other) => other.toLowerCase().startsWith(words.toLowerCase())));
  check(order[0] === "skip" && places.every((place) => place >= 0), `the order is ${order}`);
  await page.goto(url);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  check(await page.evaluate(() => document.activeElement.id) === "main", "the skip link leads nowhere");
  await page.context().close();
});

await step("axe finds nothing serious", async () => {
  for (const width of WIDTHS) {
    for (const colorScheme of SCHEMES) {
      const page = await opened({ viewport: { width, height: 900 }, colorScheme, bypassCSP: true });
      for (const path of PAGES) {
        await page.goto(url + path);
        await page.evaluate(() => document.querySelectorAll("details").forEach((details) => { details.open = true; }));
        await page.evaluate(AXE);
        const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
        for (const { id, impact, help, nodes } of violations) {
          const where = nodes.slice(0, 3).map((node) => `${node.target} ${node.failureSummary?.split("\n")[1] ?? ""}`).join("; ");
          const text = `${path} ${width} ${colorScheme}: ${impact} ${id}, ${help}: ${where}`;
          if (["serious", "critical"].includes(impact)) check(false, text); else console.log(`axe: ${text}`);
        }
      }
      await page.context().close();
    }
  }
});

await browser.close();
for (const text of found) console.log(`FOUND ${text}`);
process.exit(found.length ? 1 : 0);
