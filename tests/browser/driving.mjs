// Drives a real Chromium through the admin pages: `node driving.mjs SCENARIO '{"url", "key", "chromium", "modules"}'`.
// Prints what it saw as one JSON object; who runs it judges that.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [, , scenario, given] = process.argv;
const { url, key, chromium: program, modules, pages, languages } = JSON.parse(given);
const { chromium } = createRequire(modules + "/")("playwright-core");
const axe = readFileSync(modules + "/node_modules/axe-core/axe.min.js", "utf8");
const seen = { complaints: [], foreign: [], violations: [], overflows: [], looked: 0 };

const browser = await chromium.launch({
  executablePath: program,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});

async function newPage(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("console", (message) => message.type() === "error" && seen.complaints.push(message.text()));
  page.on("pageerror", (error) => seen.complaints.push(error.message));
  page.on("request", (request) => request.url().startsWith(url) || seen.foreign.push(request.url()));
  return page;
}

async function logIn(page) {
  await page.goto(url + "/admin/login");
  await page.fill("#key", key);
  await page.press("#key", "Enter");
  await page.waitForURL(url + "/admin");
}

// axe comes through the debugger, since the pages' policy lets no other script in.
async function look(page, name) {
  await page.evaluate(axe + "; 0");
  const found = await page.evaluate(async () => (await axe.run()).violations);
  for (const { id, impact, nodes } of found) seen.violations.push({ page: name, id, impact, html: nodes[0].html });
  seen.looked += 1;
}

const scenarios = {
  async accessible() {
    for (const colorScheme of ["light", "dark"]) {
      const page = await newPage({ colorScheme });
      await page.goto(url + "/admin/login");
      await look(page, `login, ${colorScheme}`);
      await logIn(page);
      for (const path of pages) {
        await page.goto(url + path);
        for (const details of await page.locator("details > summary").all()) { await details.click(); break; }
        await look(page, `${path}, ${colorScheme}`);
      }
      await page.context().close();
    }
  },

  // What the policy is there for: a page that somebody got markup into runs none of it, and asks nobody.
  async policy() {
    const page = await newPage({});
    seen.blocked = {};
    const tried = async (path) => {
      await page.goto(url + path);
      seen.blocked[path] = await page.evaluate(async () => {
        const blocked = [];
        document.addEventListener("securitypolicyviolation", (event) => blocked.push(event.effectiveDirective));
        const put = (name, values) => document.body.append(Object.assign(document.createElement(name), values));
        put("script", { textContent: "window.ran = true" });
        put("script", { src: "https://example.com/a.js" });
        put("img", { src: "https://example.com/a.png" });
        put("iframe", { src: "https://example.com/" });
        put("style", { textContent: "body { display: none }" });
        await fetch("https://example.com/").catch(() => 0);
        await new Promise((resolve) => setTimeout(resolve, 200));
        return [...(window.ran ? ["ran"] : []), ...new Set(blocked)].sort();
      });
    };
    await tried("/admin/login");
    await logIn(page);
    for (const path of pages) await tried(path);
    seen.complaints = seen.complaints.filter((text) => !text.includes("Content Security Policy"));
    seen.foreign = seen.foreign.filter((address) => !address.startsWith("https://example.com/"));  // none was sent
  },

  async narrow() {
    const page = await newPage({ viewport: { width: 320, height: 640 } });
    await logIn(page);
    for (const language of languages) {
      await page.context().addCookies([{ name: "omlx_lang", value: language, url: url + "/admin" }]);
      for (const path of pages) {
        await page.goto(url + path);
        const excess = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        if (excess > 0) seen.overflows.push(`${path}, ${language}: ${excess} px`);
        seen.looked += 1;
      }
    }
  },

  async settings() {
    const page = await newPage({});
    await page.goto(url + "/admin/models");
    seen.sentTo = page.url();
    await page.fill("#key", "a wrong key");
    await page.press("#key", "Enter");
    await page.locator("#notice.bad").waitFor();
    seen.refusal = await page.textContent("#notice");
    seen.complaints = [];
    await logIn(page);
    await page.goto(url + "/admin/models/tiny");
    await page.fill("#f-max_context_window", "2048");
    await page.fill("#f-alias", "coder");
    await page.check("#f-pin");
    await page.press("#f-alias", "Enter");
    await page.locator("#notice:not(.bad)").waitFor();
    await page.fill("#f-top_p", "7");
    await page.press("#f-top_p", "Enter");
    await page.locator("#notice.bad").waitFor();
    seen.wrong = await page.textContent("#notice");
    await page.goto(url + "/admin/models");
    seen.listed = await page.textContent("tbody tr");
    await page.selectOption('[data-cookie="omlx_theme"]', "dark");
    await page.waitForFunction(() => document.documentElement.dataset.theme === "dark");
    await page.click('[data-api="DELETE session"]');
    await page.waitForURL(url + "/admin/login");
    await page.goto(url + "/admin/models");
    seen.afterwards = page.url();
    seen.complaints = seen.complaints.filter((text) => !text.includes("400 (Bad Request)"));
  },

  async checks() {
    const page = await newPage({});
    await logIn(page);
    await page.goto(url + "/admin/checks");
    await page.click("form button");
    await page.locator("#checks .tag.done").first().waitFor({ timeout: 120000 });
    seen.probes = await page.locator("#checks tbody tr").count();
    await page.click("#bench");
    await page.locator("#ramp canvas").nth(1).waitFor({ timeout: 120000 });
    seen.rows = await page.locator("[data-ramp] tbody tr").count();
    await page.reload();
    await page.locator("#ramp canvas").nth(1).waitFor();
    await look(page, "checks");
  },

  async logs() {
    const page = await newPage({ viewport: { width: 900, height: 500 } });
    await logIn(page);
    await page.goto(url + "/admin/logs");
    await page.locator("#lines .info").first().waitFor();
    const lines = page.locator("#lines");
    const fromEnd = () => lines.evaluate((log) => Math.round(log.scrollHeight - log.clientHeight - log.scrollTop));
    const renewed = () => page.waitForResponse((response) => response.url().includes("/parts/logs"));
    await renewed();
    seen.followed = await fromEnd();
    await page.uncheck("#follow");
    await lines.evaluate((log) => { log.scrollTop = 0; });
    await renewed();
    await renewed();
    seen.stayed = await lines.evaluate((log) => log.scrollTop);
    await page.selectOption("#level", "ERROR");
    await page.waitForFunction(() => !document.querySelector("#lines .info"));
    seen.errors = await page.locator("#lines .error span").allTextContents();
  },

  async chat() {
    const page = await newPage({});
    await logIn(page);
    await page.goto(url + "/admin/chat");
    for (const words of ["Hello?", "And again?"]) {
      await page.fill("#words", words);
      await page.press("#words", "Enter");
      await page.waitForFunction((send) => document.getElementById("send").textContent === send, "Send");
      await page.waitForFunction(() => document.querySelector("#talk article:last-child div").textContent);
      await page.waitForFunction((send) => document.getElementById("send").textContent === send, "Send");
    }
    seen.talk = await page.locator("#talk article > div").allTextContents();
    await page.goto(url + "/admin");
    await page.locator(".tag.stop").first().waitFor();
    seen.status = await page.textContent("#live");
    seen.charts = await page.locator(".chart canvas").count();
    await page.waitForFunction(() => charts.every(({ plot }) => plot.axes[0]._values?.length));
    seen.times = await page.evaluate(() => charts.map(({ plot }) => plot.axes[0]._values));
  },

  // Answers that no model here gives: a refusal in the middle of a conversation, and thoughts.
  async troubles() {
    const page = await newPage({});
    const asked = [];
    const sse = (...deltas) => deltas.map((delta) => `data: ${JSON.stringify({ choices: [{ delta }] })}\n\n`).join("");
    const answers = [
      { status: 503, contentType: "application/json", body: '{"error": {"message": "no room now"}}' },
      { contentType: "text/event-stream", body: sse({ reasoning_content: "They greet " }, { reasoning_content: "me." }, { content: "Hello." }) },
      { contentType: "text/event-stream", body: sse({ content: "Bye." }) },
    ];
    await page.route("**/admin/api/chat", (route) => {
      asked.push(route.request().postDataJSON().messages);
      return route.fulfill(answers[asked.length - 1]);
    });
    await logIn(page);
    await page.context().addCookies([{ name: "omlx_lang", value: "fr", url: url + "/admin" }]);
    await page.goto(url + "/admin/chat");
    await page.fill("#words", "Hi");
    await page.press("#words", "Enter");
    await page.locator("#notice.bad").waitFor();
    seen.notice = await page.innerHTML("#notice");
    seen.left = [await page.locator("#talk article").count(), await page.inputValue("#words")];
    await page.press("#words", "Enter");
    await page.locator("#talk details").waitFor();
    await page.waitForFunction(() => document.querySelector("#talk article:last-child > div").textContent === "Hello.");
    seen.thought = [await page.locator("#talk details[open]").count(), await page.textContent("#talk details p")];
    await page.fill("#words", "And?");
    await page.press("#words", "Enter");
    await page.waitForFunction(() => document.querySelectorAll("#talk article").length === 4);
    seen.asked = asked;
    seen.complaints = seen.complaints.filter((text) => !text.includes("503"));
  },

  async copying() {
    seen.copied = [];
    for (const hasClipboard of [true, false]) {
      const page = await newPage({ permissions: hasClipboard ? ["clipboard-read", "clipboard-write"] : [] });
      if (!hasClipboard) await page.addInitScript(() => Object.defineProperty(navigator, "clipboard", { value: undefined }));
      await logIn(page);
      await page.goto(url + "/admin/agents");
      await page.evaluate(() => document.addEventListener("copy", () => { window.taken = String(getSelection()); }));
      const button = page.locator("button.copy").first();
      await button.click();
      await page.waitForFunction(() => document.querySelector("button.copy").textContent === "Copied");
      seen.copied.push(await page.evaluate((isThere) => isThere ? navigator.clipboard.readText() : window.taken, hasClipboard));
      await page.waitForFunction(() => document.querySelector("button.copy").textContent === "Copy");
      await page.context().close();
    }
  },

  // The Tab key alone reaches all that can be used, in the order of the page, and shows where it is.
  async keyboard() {
    const page = await newPage({});
    await logIn(page);
    seen.missed = {};
    for (const path of pages) {
      await page.goto(url + path);
      const expected = await page.evaluate(() => {
        const usable = "a[href], button, input, select, textarea, summary, [tabindex='0']";
        const found = [...document.querySelectorAll(usable)].filter((one) => one.checkVisibility() && !one.disabled && one.type !== "hidden");
        found.forEach((one, number) => { one.dataset.turn = number; });
        document.activeElement?.blur();
        return found.length;
      });
      const turns = [];
      const unseen = [];
      for (let turn = 0; turn < expected; turn++) {
        await page.keyboard.press("Tab");
        const [at, isShown] = await page.evaluate(() => {
          const one = document.activeElement;
          return [Number(one.dataset.turn ?? -1), getComputedStyle(one).outlineStyle !== "none"];
        });
        turns.push(at);
        if (!isShown) unseen.push(at);
      }
      const inOrder = turns.every((at, turn) => at === turn);
      if (!inOrder || unseen.length) seen.missed[path] = { expected, turns, unseen };
      seen.looked += expected;
    }
    await page.goto(url + "/admin");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    seen.skippedTo = await page.evaluate(() => document.activeElement.id);
  },

  async selects() {
    const page = await newPage({ viewport: { width: 1280, height: 800 } });
    await logIn(page);
    seen.clipped = [];
    for (const language of languages) {
      for (const theme of ["auto", "light", "dark"]) {
        await page.context().addCookies([{ name: "omlx_lang", value: language, url: url + "/admin" }, { name: "omlx_theme", value: theme, url: url + "/admin" }]);
        await page.goto(url + "/admin");
        seen.looked += 1;
        seen.clipped.push(...await page.evaluate(() => [...document.querySelectorAll(".tools select")].filter((one) => {
          const { offsetWidth } = one;
          one.style.maxWidth = "none";
          return one.offsetWidth > offsetWidth;
        }).map((one) => one.selectedOptions[0].textContent)));
      }
    }
  },
};

try {
  await scenarios[scenario]();
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
